//! A model's tokenizer with all that comes with it: BOS, the tokens that end a turn, the chat
//! template.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value as Json;

use crate::chat::{ChatMessage, ChatOptions, ChatTemplate};
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Vocabulary};
use crate::tokenizer::Tokenizer;

/// Control tokens after which the model has nothing more to say, in the families that have them.
const ENDS: [&str; 9] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|endofturn|>",
    "<EOT>",
];

/// The tokenizer of a model, from a Hugging Face folder or a GGUF file.
///
/// ```no_run
/// use forerun_tokens::gguf::Gguf;
/// use forerun_tokens::{ChatMessage, ChatOptions, ModelTokenizer};
///
/// let file = Gguf::open(".models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf")?;
/// let model = ModelTokenizer::from_gguf(&file)?;
/// let options = ChatOptions { add_generation_prompt: true, ..ChatOptions::default() };
/// let ids = model.encode_chat(&[ChatMessage::user("What is the capital of France?")], &options)?;
/// assert!(model.end_ids().contains(&2)); // <|im_end|>
/// # let _ = ids;
/// # Ok::<(), forerun_tokens::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ModelTokenizer {
    tokenizer: Tokenizer,
    bos_id: Option<u32>,
    eos_id: Option<u32>,
    end_ids: Vec<u32>,
    chat_template: Option<ChatTemplate>,
}

impl ModelTokenizer {
    /// A tokenizer with nothing beside it: texts end with [`Tokenizer::end_of_document`], and there is no chat template.
    #[must_use]
    pub fn plain(tokenizer: Tokenizer) -> Self {
        let eos_id = tokenizer.end_of_document();
        let end_ids = end_ids(&tokenizer, eos_id);
        Self { tokenizer, bos_id: None, eos_id, end_ids, chat_template: None }
    }

    /// Reads `tokenizer.json`, and where they are there `tokenizer_config.json` (BOS, EOS, chat
    /// templates, of which `default` is taken) and `chat_template.jinja`, which goes first.
    ///
    /// # Errors
    /// [`Error::Io`] if `tokenizer.json` is missing or a file cannot be read, [`Error::Tokenizer`]
    /// if one is damaged, [`Error::Template`] for a template that is no Jinja.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json"))?;
        let path = folder.join("tokenizer_config.json");
        let config = match read_if_there(&path)? {
            Some(text) => Config::parse(&text, &path)?,
            None => Config::default(),
        };
        let path = folder.join("chat_template.jinja");
        let template = read_if_there(&path)?.or_else(|| config.chat_template.clone());
        let id = |token: &Option<String>| tokenizer.id(token.as_deref()?);
        let (bos_id, eos_id) = (id(&config.bos_token), id(&config.eos_token));
        let [bos, eos] = [config.bos_token.as_deref(), config.eos_token.as_deref()];
        let name = folder.display().to_string();
        let chat_template = template.map(|source| ChatTemplate::new(&source, &name, bos, eos));
        let chat_template = chat_template.transpose()?;
        let end_ids = end_ids(&tokenizer, eos_id);
        Ok(Self { tokenizer, bos_id, eos_id, end_ids, chat_template })
    }

    /// Reads the metadata `tokenizer.*` of a GGUF file.
    ///
    /// # Errors
    /// [`Error::Gguf`] as for [`Tokenizer::from_gguf`], and for ids that no token has;
    /// [`Error::Template`] for a template that is no Jinja.
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        let vocabulary = Vocabulary::read(file)?;
        let tokenizer = Tokenizer::from_json(vocabulary.to_json()?, file.name())?;
        let [bos_id, eos_id] = vocabulary.bos_and_eos()?;
        let text = |id: Option<u32>| id.map(|id| vocabulary.tokens[id as usize]);
        let template = file.string("tokenizer.chat_template")?;
        let chat_template = template
            .map(|source| ChatTemplate::new(source, file.name(), text(bos_id), text(eos_id)));
        let chat_template = chat_template.transpose()?;
        let mut end_ids = end_ids(&tokenizer, eos_id);
        for key in ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            end_ids.extend(vocabulary.id(key)?);
        }
        end_ids.sort_unstable();
        end_ids.dedup();
        Ok(Self { tokenizer, bos_id, eos_id, end_ids, chat_template })
    }

    /// Text to ids and back.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The token that begins a text, if the model has one.
    #[must_use]
    pub fn bos_id(&self) -> Option<u32> {
        self.bos_id
    }

    /// The token that ends a text, if the model has one.
    #[must_use]
    pub fn eos_id(&self) -> Option<u32> {
        self.eos_id
    }

    /// The tokens after which generation ends, ascending: EOS, and those special tokens that end
    /// a text or a turn in a known family of models, such as `<|im_end|>` and `<|eot_id|>`.
    #[must_use]
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// The template for conversations, if the model has one.
    #[must_use]
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// Token ids of a text to complete; see [`Tokenizer::encode_prompt`].
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer's own rules fail on `text`.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.encode_prompt(text)
    }

    /// Token ids of a conversation, by the model's template and nothing around it.
    ///
    /// Special tokens that stand in a message become their ids, as in transformers: a message that
    /// was not written by whom you trust can pretend to end its turn.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the model has no chat template, [`Error::Template`] if it refuses.
    pub fn encode_chat(&self, messages: &[ChatMessage], options: &ChatOptions) -> Result<Vec<u32>> {
        let missing = || Error::tokenizer(self.tokenizer.name(), "has no chat template");
        let template = self.chat_template.as_ref().ok_or_else(missing)?;
        self.tokenizer.encode_special(&template.render(messages, options)?)
    }
}

/// EOS and all special tokens that end something, ascending.
fn end_ids(tokenizer: &Tokenizer, eos_id: Option<u32>) -> Vec<u32> {
    let known = ENDS.iter().filter_map(|token| tokenizer.id(token));
    let special = known.filter(|&id| tokenizer.is_special(id));
    let mut ids: Vec<u32> = special.chain(eos_id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// What we need of a `tokenizer_config.json`.
#[derive(Debug, Default)]
struct Config {
    bos_token: Option<String>,
    eos_token: Option<String>,
    chat_template: Option<String>,
}

impl Config {
    fn parse(text: &str, path: &Path) -> Result<Self> {
        let wrong = |reason: String| Error::tokenizer(&path.display().to_string(), reason);
        let json: Json = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if !json.is_object() {
            return Err(wrong("is no JSON object".to_owned()));
        }
        let token =
            |key: &str| token_text(&json[key]).map_err(|want| wrong(format!("`{key}` {want}")));
        Ok(Self {
            bos_token: token("bos_token")?,
            eos_token: token("eos_token")?,
            chat_template: template_text(&json["chat_template"]).map_err(wrong)?,
        })
    }
}

/// A token is written as a text, or as an object that describes it.
fn token_text(json: &Json) -> Result<Option<String>, &'static str> {
    match json {
        Json::Null => Ok(None),
        Json::String(text) => Ok(Some(text.clone())),
        Json::Object(token) => match token.get("content") {
            Some(Json::String(text)) => Ok(Some(text.clone())),
            _ => Err("has no `content`"),
        },
        _ => Err("is neither a text nor an object"),
    }
}

/// A template is written as a text, or in a list of named ones.
fn template_text(json: &Json) -> Result<Option<String>, String> {
    let templates = match json {
        Json::Null => return Ok(None),
        Json::String(text) => return Ok(Some(text.clone())),
        Json::Array(templates) => templates,
        _ => return Err("`chat_template` is neither a text nor a list".to_owned()),
    };
    let default = templates.iter().find(|template| template["name"] == "default");
    let only = if templates.len() == 1 { templates.first() } else { None };
    match default.or(only).map(|template| &template["template"]) {
        Some(Json::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err("a `chat_template` has no text `template`".to_owned()),
        None => Err("none of several `chat_template`s is called `default`".to_owned()),
    }
}

#[cfg(test)]
mod tests;
