use serde_json::{Value as Json, json};

use super::*;

const PHI3: &str = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}";

fn template(source: &str) -> Result<ChatTemplate> {
    ChatTemplate::new(source, "model", Some("<s>"), None)
}

fn render(source: &str) -> Result<String> {
    template(source)?.render(&[ChatMessage::user("Hi")], &ChatOptions::default())
}

fn check_refused(source: &str, expected: &str) {
    let error = render(source).unwrap_err().to_string();
    assert_eq!(error, format!("chat template of `model`{expected}"));
}

#[test]
fn prompts_are_those_of_transformers() {
    let golden: Json = serde_json::from_str(include_str!("../../tests/data/chat.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 40);
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let source = golden["templates"][name].as_str().unwrap();
        let template = ChatTemplate::new(source, name, Some("<s>"), Some("</s>")).unwrap();
        let messages: Vec<ChatMessage> = serde_json::from_value(case["messages"].clone()).unwrap();
        let mut variables: BTreeMap<String, Json> =
            serde_json::from_value(case["options"].clone()).unwrap();
        let add = variables.remove("add_generation_prompt").unwrap();
        let options = ChatOptions {
            add_generation_prompt: add.as_bool().unwrap(),
            now_unix_secs: None,
            variables,
        };
        let rendered = template.render(&messages, &options);
        match (&case["text"], &case["refused"]) {
            (Json::String(text), _) => assert_eq!(&rendered.unwrap(), text, "{name}"),
            (_, Json::String(refused)) => {
                let error = rendered.unwrap_err().to_string();
                assert!(error.ends_with(&format!("the template refuses: {refused}")), "{error}");
            }
            _ => panic!("a case without a result"),
        }
    }
}

#[test]
fn the_date_is_shown_where_one_is_given() {
    let source = "{{ strftime_now('%d %b %Y') if strftime_now is defined else 'no date' }}";
    let messages = [ChatMessage::user("Hi")];
    let at = |now_unix_secs| {
        let options = ChatOptions { now_unix_secs, ..ChatOptions::default() };
        template(source).unwrap().render(&messages, &options).unwrap()
    };
    assert_eq!(at(None), "no date");
    assert_eq!(at(Some(1_735_689_599)), "31 Dec 2024"); // a second before the new year
}

#[test]
fn a_wrong_date_format_is_an_error() {
    let options = ChatOptions { now_unix_secs: Some(0), ..ChatOptions::default() };
    let error = template("{{ strftime_now('%') }}").unwrap().render(&[], &options).unwrap_err();
    assert!(error.to_string().starts_with("chat template of `model`, line 1: "), "{error}");
}

#[test]
fn an_unset_token_is_empty() {
    assert_eq!(render("[{{ bos_token }}|{{ eos_token }}]").unwrap(), "[<s>|]");
}

#[test]
fn variables_go_before_what_is_set() {
    let options = ChatOptions {
        variables: [("tools".to_owned(), json!([{"name": "f"}]))].into(),
        ..ChatOptions::default()
    };
    let source = "{% for tool in tools %}{{ tool.name }}{% endfor %}";
    assert_eq!(template(source).unwrap().render(&[], &options).unwrap(), "f");
    assert_eq!(render("{{ tools is none }}").unwrap().to_lowercase(), "true");
}

#[test]
fn errors_name_the_line() {
    check_refused("a\n{% for %}", ", line 2: syntax error: unexpected end of block, expected in");
    check_refused("a\n\n{{ raise_exception('no') }}", ", line 3: the template refuses: no");
    check_refused("{{ messages.x.y }}", ", line 1: undefined value: `messages.x` is undefined");
    check_refused(
        "\n{{ messages | frobnicate }}",
        ", line 2: unknown filter: filter frobnicate is unknown",
    );
    check_refused(
        "{{ 'a' | tojson(sort_keys=true) }}",
        ", line 1: too many arguments: unknown keyword argument 'sort_keys'",
    );
}

#[test]
fn time_memory_and_depth_are_bounded() {
    let doubled = "{% set ns = namespace(x='0123456789') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}";
    let out = ", line 1: takes too many steps or too much memory";
    check_refused(doubled, out);
    check_refused("{{ 'x' * 1000000000000 }}", ", line 1: takes too many steps or too much memory");
    let nested = "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}x{% endfor %}{% endfor %}{% endfor %}";
    check_refused(nested, out);
    let error = render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").unwrap_err().to_string();
    assert!(error.contains("recursion limit"), "{error}");
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000));
    let error = render(&deep).unwrap_err().to_string();
    assert!(error.contains("recursion"), "{error}");
}

#[test]
fn a_long_conversation_is_no_runaway() {
    let messages: Vec<ChatMessage> =
        (0..20_000).map(|i| ChatMessage::user(format!("turn {i} {}", "x".repeat(100)))).collect();
    let prompt = template(PHI3).unwrap().render(&messages, &ChatOptions::default()).unwrap();
    assert_eq!(prompt.matches("<|end|>").count(), 20_000);
    let long = [ChatMessage::user("y".repeat(30_000_000))];
    let prompt = template(PHI3).unwrap().render(&long, &ChatOptions::default()).unwrap();
    assert!(prompt.len() > 30_000_000);
}

#[test]
fn generation_tags_keep_their_blanks() {
    check_generation(
        "a {%- generation -%} b {%- endgeneration %} c",
        "a {%- if true -%} b {%- endif %} c",
    );
    check_generation("{% generation %}x{% endgeneration %}", "{% if true %}x{% endif %}");
    check_generation(
        "{{ generation }} {% set generation = 1 %} {%",
        "{{ generation }} {% set generation = 1 %} {%",
    );
}

fn check_generation(source: &str, expected: &str) {
    assert_eq!(without_generation_tags(source), expected);
}
