"""Makes chat.json: conversations, and what transformers makes of them with several chat templates.

    pip install transformers==5.23.0 jinja2==3.1.6 && python make_chat.py chat.json
"""

import json
import sys

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

TEMPLATES = {
    # As SmolLM2-135M-Instruct ships it (Apache-2.0).
    "smollm2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    # The format of Phi-3, in words of ours.
    "phi3": "{{ bos_token if add_bos else '' }}{% for m in messages %}{% if m['role'] in ['system', 'user', 'assistant'] %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    # The format of Llama 2, in words of ours.
    "llama2": """{% if messages[0]['role'] == 'system' %}
    {% set rest = messages[1:] %}
    {% set system = '<<SYS>>\\n' ~ messages[0]['content'].strip() ~ '\\n<</SYS>>\\n\\n' %}
{% else %}
    {% set rest = messages %}
    {% set system = '' %}
{% endif %}
{% for message in rest %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('roles must alternate, and turn ' ~ loop.index ~ ' is of ' ~ message.role) }}
    {% endif %}
    {% if message.role == 'user' %}
{{ bos_token + '[INST] ' + (system if loop.first else '') + message.content | trim + ' [/INST]' }}
    {%- else %}
{{ ' ' ~ message.content.strip() ~ ' ' ~ eos_token }}
    {%- endif %}
{% endfor %}
""",
    # The format of Llama 3, in words of ours, with what newer templates use.
    "llama3": """{{- bos_token }}
{%- if date is not defined %}
    {%- set date = "26 Jul 2024" %}
{%- endif %}
{%- macro header(role) -%}
    <|start_header_id|>{{ role }}<|end_header_id|>

{% endmacro -%}
{{- header("system") }}Today: {{ date }}
{%- set ns = namespace(tools=0) %}
{%- if tools is not none and tools %}
    {%- for tool in tools %}
        {%- set ns.tools = ns.tools + 1 %}
        {{- "\\n" ~ (tool | tojson) }}
        {%- for key, value in tool.items() %}
            {{- "; " ~ key ~ " is " ~ ("a map" if value is mapping else value) }}
        {%- endfor %}
    {%- endfor %}
    {{- "\\n" ~ ns.tools ~ " tools\\n" ~ tools | tojson(indent=2) }}
{%- endif %}
{{- "<|eot_id|>" }}
{% for message in messages %}
    {%- if message.role == "skip" %}{% continue %}{% endif %}
    {%- if message.role == "stop" %}{% break %}{% endif %}
    {{- header(message.role) }}
    {%- generation %}
    {{- message.content | trim }}
    {%- endgeneration %}
    {{- "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- header("assistant") }}
{%- endif %}
""",
    # Python's methods, filters and tests that templates use.
    "methods": """{% for m in messages %}
{% set words = m.content.split() %}
{{ loop.index }}/{{ loop.length }} {{ m.role.upper() }} {{ words | length }} {{ words | join('+') }}
{{ m.content.startswith('Hi') }} {{ m.content.endswith('?') }} {{ 'é' in m.content }} {{ m.get('name', 'nobody') }}
{{ m.content.replace('a', 'A') | upper | lower }} {{ m.content.split('\\n')[-1].lstrip('\\n ') }} {{ m.content[:3] }}
{{ m.content is string }} {{ m is mapping }} {{ m.nothing is defined }} {{ [1, 2.5, none, true] | tojson }}
{{ loop.last }} {{ loop.previtem.role if loop.previtem is defined else '-' }} {{ 7 // 2 }} {{ 7 % 4 }} {{ -7 // 2 }}
{% endfor %}
{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list | length }}
{{ messages | rejectattr('role', 'equalto', 'user') | list | length }} {{ (messages | last).role }}
{{ ['b', 'a'] | sort | first }}{{ '%02d' }} {{ undefined_thing }} {{ {'x': 1}['x'] }} {{ "<&'\\">" | tojson }}
{# a comment #}
    {% if messages[0].role == 'user' and not messages[-1].role == 'user' %}
        inner
    {% endif %}
end""",
}

ANSWERED = [("system", " Be brief. "), ("user", "Hi, what is 1 + 1?\n"), ("assistant", "Two. "), ("user", "naïve <b>日本</b> 🐋?")]
CONVERSATIONS = {
    "one": [("user", "What is the capital of France?")],
    "answered": ANSWERED,
    "ends with the model": ANSWERED[:3],
    "odd": [("user", "a"), ("user", "{{ messages }} {% raw %} <|end|>")],
    "skipped": [("user", "a"), ("skip", "not seen"), ("assistant", " b\n"), ("stop", "x"), ("user", "c")],
}
TOOLS = [{"name": "add", "parameters": {"a": "int", "b": "<int>"}}, {"name": "é"}]
OPTIONS = [
    {"add_generation_prompt": True},
    {"add_generation_prompt": False, "add_bos": True, "date": "1 May 2025", "tools": TOOLS},
]

cases = []
for template, source in TEMPLATES.items():
    for name, turns in CONVERSATIONS.items():
        messages = [{"role": role, "content": content} for role, content in turns]
        for options in OPTIONS:
            case = {"template": template, "messages": messages, "options": options}
            try:
                rendered, _ = render_jinja_template([messages], chat_template=source, bos_token="<s>", eos_token="</s>", **options)
                case["text"] = rendered[0]
            except jinja2.exceptions.TemplateError as error:
                case["refused"] = str(error)
            cases.append(case)
source = f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}"
with open(sys.argv[1], "w") as file:
    json.dump({"source": source, "templates": TEMPLATES, "cases": cases}, file, indent=1, ensure_ascii=False)
