//! A real browser that opens a report and says what it saw; shared by the tests of this crate's gallery and of whole
//! experiments.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use std::{env, fs, thread};

use serde_json::{Value, json};

/// Opens a page at the widths of a phone and a desk, light and dark, and asserts that it fits, loads nothing and says
/// nothing on the console. Where no browser is found it says so in one line. Pictures go to the folder that
/// `FORERUN_SCREENSHOTS` names.
pub(crate) fn check_page(page: &Path, title: &str, least_figures: u64) {
    let Some(binary) = find_browser() else {
        println!("skipped: no chromium or chrome on the PATH");
        return;
    };
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Browser::start(&binary, profile.path());
    for (width, height) in [(400, 800), (1400, 900)] {
        for scheme in ["light", "dark"] {
            let what = format!("{width} pixels, {scheme}");
            browser.open(page, width, height, scheme);
            if let Some(folder) = env::var_os("FORERUN_SCREENSHOTS") {
                let stem = title.to_lowercase().replace(|c: char| !c.is_alphanumeric(), "-");
                let name = format!("{stem}-{width}-{scheme}.png");
                browser.screenshot(&PathBuf::from(folder).join(name));
            }
            let seen = browser.evaluate(MEASURE);
            assert_eq!(seen["width"], width, "{what}");
            assert_eq!(seen["dark"], scheme == "dark", "{what}");
            assert_eq!(seen["title"], title, "{what}");
            assert_eq!(seen["overflow"], 0, "the page scrolls sideways at {what}");
            assert_eq!(seen["resources"], json!([]), "the page loads something at {what}");
            assert_eq!(seen["scripts"], 0, "{what}");
            assert_eq!(seen["outside"], json!([]), "text outside of its figure at {what}");
            assert_eq!(seen["overlaps"], json!([]), "labels on top of each other at {what}");
            assert!(seen["figures"].as_u64().unwrap() >= least_figures, "{what}: {seen}");
            browser.check_events(page, &what);
        }
    }
}

/// What the page looks like from inside. Of two texts in a figure none may cover the other, and
/// none may leave the drawing.
const MEASURE: &str = r#"(() => {
  const root = document.documentElement;
  const shown = [...document.querySelectorAll("svg")].filter(s => s.getBoundingClientRect().width > 0);
  const outside = [], overlaps = [];
  for (const svg of shown) {
    const box = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
    texts.forEach(([text, r], i) => {
      if (r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1 || r.bottom > box.bottom + 1)
        outside.push(svg.getAttribute("aria-label").slice(0, 30) + ": " + text);
      for (const [other, o] of texts.slice(i + 1)) {
        const wide = Math.min(r.right, o.right) - Math.max(r.left, o.left);
        const high = Math.min(r.bottom, o.bottom) - Math.max(r.top, o.top);
        if (wide > 0.5 && high > 3) overlaps.push(text + " / " + other);
      }
    });
  }
  return {
    width: innerWidth, title: document.title, figures: shown.length, outside, overlaps,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    overflow: root.scrollWidth - root.clientWidth,
    resources: performance.getEntriesByType("resource").map(e => e.name),
    scripts: document.scripts.length,
  };
})()"#;

/// A browser behind a pipe: requests are JSON that ends in a zero byte.
struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: String,
    events: Vec<Value>,
    n_sent: u64,
}

impl Browser {
    fn start(binary: &Path, profile: &Path) -> Self {
        // The browser talks on file descriptors 3 and 4; the shell hands it our pipes there.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1"])
            .arg(binary)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--disable-quic", "--disable-dev-shm-usage"])
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let (sender, from) = channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while lines.read_until(0, &mut message).is_ok_and(|n| n > 0) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { break };
                if sender.send(value).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let mut browser =
            Self { child, to, from, session: String::new(), events: Vec::new(), n_sent: 0 };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Network", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Sends a request and waits for its answer; events are kept.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.n_sent += 1;
        let mut request = json!({"id": self.n_sent, "method": method, "params": params});
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        self.to.write_all(format!("{request}\0").as_bytes()).unwrap();
        loop {
            let message = self.receive(method);
            if message["id"] == self.n_sent {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn receive(&self, what: &str) -> Value {
        let wait = Duration::from_secs(60);
        self.from.recv_timeout(wait).unwrap_or_else(|e| panic!("{what}: no answer: {e}"))
    }

    fn open(&mut self, page: &Path, width: u32, height: u32, scheme: &str) {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let feature = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": feature}));
        self.events.clear();
        self.call("Page.navigate", json!({"url": format!("file://{}", page.display())}));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.receive("Page.loadEventFired");
            self.events.push(event);
        }
    }

    fn evaluate(&mut self, script: &str) -> Value {
        let params = json!({"expression": script, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{answer}");
        answer["result"]["value"].clone()
    }

    /// No message on the console, no exception, and no request but for the page itself.
    fn check_events(&mut self, page: &Path, what: &str) {
        let own = format!("file://{}", page.display());
        for event in self.events.drain(..) {
            match event["method"].as_str().unwrap_or_default() {
                "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded" => {
                    panic!("{what}: {event}");
                }
                "Network.requestWillBeSent" => {
                    let url = event["params"]["request"]["url"].as_str().unwrap();
                    assert!(url == own || url.starts_with("data:,"), "{what}: requests {url}");
                }
                _ => {}
            }
        }
    }

    fn screenshot(&mut self, path: &Path) {
        let params = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.call("Page.captureScreenshot", params);
        fs::write(path, decode_base64(answer["data"].as_str().unwrap())).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        thread::sleep(Duration::from_millis(200));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find_browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
    names.iter().flat_map(|name| folders.iter().map(move |f| f.join(name))).find(|p| p.is_file())
}

fn decode_base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|&c| c != b'=').map(digit).collect();
    let mut bytes = Vec::new();
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0_u32, |bits, &d| bits << 6 | u32::from(d));
        let bits = bits << (6 * (4 - group.len()));
        bytes.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}
