//! Conversations to prompts, by the template that a model was tuned with.
//!
//! Templates are Jinja, rendered as transformers' `apply_chat_template` renders them: blocks trimmed,
//! Python's methods of strings and maps, `raise_exception`, `strftime_now`, `tojson`, loop controls,
//! `{% generation %}`. They come from files of others, so that time, memory and depth are bounded.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, ErrorKind, Value};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

mod json;

/// The only template of an environment.
const TEMPLATE: &str = "chat";

/// Steps that any conversation may take, besides those for its length. A step may take 64 bytes.
const STEPS: u64 = 1_000_000;
/// Steps for each message.
const MESSAGE_STEPS: u64 = 2_000;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who speaks: `system`, `user` or `assistant`, or what else a template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// What `role` says.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// What the model is told before the conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// What the model says.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

/// What a template is told besides the messages; by default, nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatOptions {
    /// Whether the prompt ends with the words that begin the model's turn.
    pub add_generation_prompt: bool,
    /// The time that `strftime_now` shows, in seconds since 1970 (UTC). Without it the function is
    /// not defined, and templates that ask for it fall back on a date of their own.
    pub now_unix_secs: Option<i64>,
    /// Variables that this model's template knows, such as `enable_thinking` or `tools`.
    pub variables: BTreeMap<String, serde_json::Value>,
}

/// A compiled chat template.
///
/// ```
/// use forerun_tokens::{ChatMessage, ChatOptions, ChatTemplate};
///
/// let source = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content.strip() }}<|end|>\n{% endfor %}\
///     {% if add_generation_prompt %}<|assistant|>\n{% endif %}";
/// let template = ChatTemplate::new(source, "phi-3", None, Some("<|endoftext|>"))?;
/// let options = ChatOptions { add_generation_prompt: true, ..ChatOptions::default() };
/// let prompt = template.render(&[ChatMessage::user(" Hi! ")], &options)?;
/// assert_eq!(prompt, "<|user|>\nHi!<|end|>\n<|assistant|>\n");
/// # Ok::<(), forerun_tokens::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    name: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
}

impl ChatTemplate {
    /// Compiles `source`; `name` is what errors call it. The two tokens are what the template's
    /// `bos_token` and `eos_token` stand for.
    ///
    /// # Errors
    /// [`Error::Template`] names the line that is no Jinja.
    pub fn new(
        source: &str,
        name: &str,
        bos_token: Option<&str>,
        eos_token: Option<&str>,
    ) -> Result<Self> {
        let failed = |error: minijinja::Error| template_error(name, &error);
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(failed)?);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", json::to_json);
        let source = without_generation_tags(source);
        environment.add_template_owned(TEMPLATE, source).map_err(failed)?;
        let [bos_token, eos_token] = [bos_token, eos_token].map(|token| token.map(str::to_owned));
        Ok(Self { environment, name: name.to_owned(), bos_token, eos_token })
    }

    /// The prompt for `messages`. Special tokens are written out in it, BOS included where the
    /// template wants it: encode it with [`Tokenizer::encode_special`].
    ///
    /// [`Tokenizer::encode_special`]: crate::Tokenizer::encode_special
    ///
    /// # Errors
    /// [`Error::Template`] with the line: what the template refuses (`raise_exception`), cannot do,
    /// or takes too much time, memory or depth for.
    pub fn render(&self, messages: &[ChatMessage], options: &ChatOptions) -> Result<String> {
        let failed = |error: minijinja::Error| template_error(&self.name, &error);
        let mut environment = self.environment.clone(); // cheap: its parts are shared
        let n_bytes: usize = messages.iter().map(|m| m.role.len() + m.content.len()).sum();
        let for_messages = (messages.len() as u64).saturating_mul(MESSAGE_STEPS);
        environment
            .set_fuel(Some(STEPS.saturating_add(for_messages).saturating_add(n_bytes as u64)));
        let template = environment.get_template(TEMPLATE).map_err(failed)?;
        template.render(self.variables(messages, options)).map_err(failed)
    }

    fn variables(&self, messages: &[ChatMessage], options: &ChatOptions) -> Value {
        let mut variables: BTreeMap<String, Value> = BTreeMap::new();
        let mut set = |name: &str, value: Value| variables.insert(name.to_owned(), value);
        set("messages", Value::from(Serde(messages)));
        set("add_generation_prompt", options.add_generation_prompt.into());
        for name in ["tools", "documents"] {
            set(name, Value::from(())); // transformers defines them as none
        }
        let tokens = [("bos_token", &self.bos_token), ("eos_token", &self.eos_token)];
        for (name, token) in tokens {
            if let Some(token) = token {
                set(name, token.into());
            }
        }
        if let Some(now) = options.now_unix_secs {
            set("strftime_now", Value::from_function(move |format: &str| strftime(now, format)));
        }
        for (name, value) in &options.variables {
            set(name, Value::from(Serde(value)));
        }
        Value::from(variables)
    }
}

fn raise_exception(message: &str) -> Result<Value, minijinja::Error> {
    let detail = format!("the template refuses: {message}");
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, detail))
}

fn strftime(now_unix_secs: i64, format: &str) -> Result<String, minijinja::Error> {
    let shown = jiff::Timestamp::from_second(now_unix_secs)
        .map(|now| now.to_zoned(jiff::tz::TimeZone::UTC))
        .and_then(|now| jiff::fmt::strtime::format(format, &now));
    shown.map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

/// `{% generation %}` marks what the model said, for training on it; it has no effect on the text.
fn without_generation_tags(source: &str) -> String {
    let mut rest = source;
    let mut text = String::with_capacity(source.len());
    while let Some((before, tag)) = rest.split_once("{%") {
        text.push_str(before);
        text.push_str("{%");
        rest = tag;
        let Some((inside, _)) = tag.split_once("%}") else { continue };
        let word = inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let replacement = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        text.push_str(&inside.replace(word, replacement));
        rest = &tag[inside.len()..];
    }
    text.push_str(rest);
    text
}

fn template_error(name: &str, error: &minijinja::Error) -> Error {
    let kind = error.kind();
    let reason = match (kind, error.detail()) {
        (ErrorKind::OutOfFuel, _) => "takes too many steps or too much memory".to_owned(),
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (_, Some(detail)) => format!("{kind}: {detail}"),
        (_, None) => kind.to_string(),
    };
    Error::Template { name: name.to_owned(), line: error.line(), reason }
}

#[cfg(test)]
mod tests;
