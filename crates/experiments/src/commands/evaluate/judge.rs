//! A judge: a language model behind an endpoint that speaks OpenAI's chat protocol, asked for a grade from 1 to 10.

mod prompts;

use std::cell::Cell;
use std::env;
use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use ureq::Agent;

use crate::cli::tell;
use crate::interrupt;

pub(super) use prompts::{Exchange, prompt};

/// The environment variable with the endpoint's key. It is sent to the endpoint and shown nowhere.
const KEY: &str = "FORERUN_JUDGE_KEY";

/// Where the judge is, and how patient we are.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    agent: Agent,
    url: String,
    model: String,
    key: Option<String>,
    /// Tries of one request.
    tries: u32,
    /// Wait before the second try; it doubles with each.
    wait: Duration,
    /// Whether the endpoint has ever answered.
    heard: Cell<bool>,
}

/// What a judge is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) system: String,
    pub(super) user: String,
}

/// Why a try failed.
enum Failure {
    /// Another try may succeed; perhaps the endpoint says when.
    Passing(String, Option<Duration>),
    /// None will.
    Final(String),
}

impl Judge {
    /// The judge `model` at `url`, `http://host:port/v1` or with `/chat/completions` behind it.
    pub(super) fn new(url: &str, model: &str) -> Result<Self> {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let rest = rest
            .with_context(|| format!("--judge must begin with http:// or https://, got `{url}`"))?;
        let host = rest.split('/').next().unwrap_or_default();
        ensure!(
            !host.contains('@'),
            "--judge must have no user or password in it; a key goes into {KEY}"
        );
        ensure!(!host.is_empty(), "--judge names no host: `{url}`");
        let url = url.trim_end_matches('/');
        let url = match url.ends_with("/chat/completions") {
            true => url.to_owned(),
            false => format!("{url}/chat/completions"),
        };
        let config = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(600)))
            .http_status_as_error(false)
            .max_redirects(0) // a key must not travel on
            .build();
        let key = env::var(KEY).ok().filter(|key| !key.trim().is_empty());
        Ok(Self {
            agent: config.into(),
            url,
            model: model.to_owned(),
            key: key.map(|key| key.trim().to_owned()),
            tries: 6,
            wait: Duration::from_secs(1),
            heard: Cell::new(false),
        })
    }

    pub(super) fn model(&self) -> &str {
        &self.model
    }

    /// The judge's words.
    pub(super) fn ask(&self, request: &Request) -> Result<String> {
        let body = json!({
            "model": self.model,
            "messages": [
                { "role": "system", "content": request.system },
                { "role": "user", "content": request.user },
            ],
            "temperature": 0,
            "max_tokens": 2048,
        });
        let body = body.to_string();
        let mut wait = self.wait;
        for n_tried in 1.. {
            let (reason, asked) = match self.once(&body) {
                Ok(text) => return Ok(text),
                Err(Failure::Final(reason)) => bail!("the judge at `{}`: {reason}", self.url),
                Err(Failure::Passing(reason, asked)) => (reason, asked),
            };
            if n_tried == 1 && self.tries > 1 {
                tell(&format!("the judge: {reason}; trying again"));
            }
            if n_tried < self.tries {
                pause(asked.unwrap_or(wait).min(Duration::from_secs(60)));
            }
            if n_tried == self.tries || interrupt::asked() {
                bail!("the judge at `{}`, tried {n_tried} times: {reason}", self.url);
            }
            wait *= 2;
        }
        bail!("the judge at `{}` was not asked", self.url)
    }

    fn once(&self, body: &str) -> Result<String, Failure> {
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let sent = request.send(body);
        let mut response = sent.map_err(|error| match !self.heard.get() && is_wrong(&error) {
            true => Failure::Final(error.to_string()),
            false => Failure::Passing(error.to_string(), None),
        })?;
        self.heard.set(true);
        let status = response.status().as_u16();
        let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let after = after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let text = response.body_mut().read_to_string();
        let text = text.map_err(|error| Failure::Passing(error.to_string(), after))?;
        match status {
            200 => content(&text).map_err(Failure::Final),
            408 | 409 | 425 | 429 | 500..=599 => {
                Err(Failure::Passing(self.said(status, &text), after))
            }
            _ => Err(Failure::Final(self.said(status, &text))),
        }
    }

    /// What an endpoint that refuses says; should it repeat the key, that is not shown.
    fn said(&self, status: u16, text: &str) -> String {
        let text = match &self.key {
            Some(key) => text.replace(key, "…"),
            None => text.to_owned(),
        };
        let words: String =
            text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
        format!("status {status}: {words}")
    }
}

/// Whether an error says that the address is wrong, or the other side not who it says it is: of an endpoint that has never
/// answered, waiting mends neither.
fn is_wrong(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => {
            error.kind() == ErrorKind::InvalidData // a certificate, within the handshake
                || is_unknown_name(&error.to_string())
        }
        ureq::Error::HostNotFound | ureq::Error::BadUri(_) | ureq::Error::Tls(_) => true,
        ureq::Error::Rustls(_) => true,
        _ => false,
    }
}

/// Whether a host's name is not known, rather than no name server in reach for now (`EAI_AGAIN`). The standard library
/// tells them apart by the C library's words alone: glibc's, BSD's and macOS's, or musl's.
fn is_unknown_name(error: &str) -> bool {
    let for_now = ["Temporary failure in name resolution", "Try again"];
    error.contains("failed to lookup address") && !for_now.iter().any(|words| error.contains(words))
}

/// Waits, unless Ctrl-C comes first.
fn pause(mut left: Duration) {
    const STEP: Duration = Duration::from_millis(100);
    while !left.is_zero() && !interrupt::asked() {
        let step = left.min(STEP);
        thread::sleep(step);
        left -= step;
    }
}

/// The words in an answer of the chat protocol.
fn content(text: &str) -> Result<String, String> {
    let answer: Value =
        serde_json::from_str(text).map_err(|error| format!("its answer is no JSON: {error}"))?;
    let words = answer.pointer("/choices/0/message/content").and_then(Value::as_str);
    words.map(str::to_owned).ok_or_else(|| {
        let shown: String = text.chars().take(300).collect();
        format!("its answer has no choices[0].message.content: {shown}")
    })
}

/// The first grade in double brackets, or else in single ones: `Rating: [[7.5]]`. None if there is none from 1 to 10.
pub(super) fn rating(text: &str) -> Option<f64> {
    let between = |open: &str, close: &str| {
        text.match_indices(open).find_map(|(start, _)| {
            let rest = &text[start + open.len()..];
            let inside = &rest[..rest.find(close)?];
            let plain = inside.starts_with(|c: char| c.is_ascii_digit())
                && inside.chars().all(|c| c.is_ascii_digit() || c == '.');
            inside.parse::<f64>().ok().filter(|_| plain)
        })
    };
    let found = between("[[", "]]").or_else(|| between("[", "]"))?;
    (1.0..=10.0).contains(&found).then_some(found)
}

#[cfg(test)]
pub(super) mod tests;
