//! JSON text as fastjson's pretty printer writes it: the shape of Apache's state files.
//! Layout: docs/formats/state_files.md.

use crate::protocol::body::DataVersion;

/// One tab per level, no blanks round colons.
#[derive(Debug, Default)]
pub struct JsonWriter {
    out: String,
    depth: usize,
    /// Nothing was written yet on this level.
    is_first: bool,
}

impl JsonWriter {
    pub fn new() -> Self {
        JsonWriter { out: String::new(), depth: 0, is_first: true }
    }

    /// Begins an object, under a key unless it is the outermost.
    pub fn open(&mut self, key: Option<&str>) {
        if let Some(key) = key {
            self.key(key);
        }
        self.out.push('{');
        self.depth += 1;
        self.is_first = true;
    }

    pub fn close(&mut self) {
        assert!(self.depth > 0, "every close follows its open");
        self.depth -= 1;
        if !self.is_first {
            self.new_line();
        }
        self.out.push('}');
        self.is_first = false;
    }

    pub fn int(&mut self, key: &str, value: i64) {
        self.key(key);
        self.out.push_str(&value.to_string());
    }

    pub fn bool(&mut self, key: &str, value: bool) {
        self.key(key);
        self.out.push_str(if value { "true" } else { "false" });
    }

    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.string(value);
    }

    pub fn version(&mut self, version: &DataVersion) {
        self.open(Some("dataVersion"));
        self.int("counter", version.counter);
        self.int("timestamp", version.timestamp);
        self.close();
    }

    /// A map with integer keys: bare keys on one line, the closing brace on the next.
    pub fn int_map(&mut self, key: &str, entries: impl Iterator<Item = (i64, i64)>) {
        self.open(Some(key));
        let mut any = false;
        for (key, value) in entries {
            if any {
                self.out.push(',');
            }
            any = true;
            self.out.push_str(&format!("{key}:{value}"));
        }
        self.is_first = !any;
        self.close();
    }

    /// A list of numbers, on one line.
    pub fn ints(&mut self, key: &str, values: impl Iterator<Item = i64>) {
        self.key(key);
        let values: Vec<String> = values.map(|value| value.to_string()).collect();
        self.out.push_str(&format!("[{}]", values.join(",")));
    }

    pub fn finish(self) -> String {
        assert_eq!(self.depth, 0, "every open has its close");
        self.out
    }

    fn key(&mut self, key: &str) {
        if !self.is_first {
            self.out.push(',');
        }
        self.is_first = false;
        self.new_line();
        self.string(key);
        self.out.push(':');
    }

    fn new_line(&mut self) {
        self.out.push('\n');
        for _ in 0..self.depth {
            self.out.push('\t');
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                c if c < ' ' => self.out.push_str(&format!("\\u{:04x}", c as u32)),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let mut out = JsonWriter::new();
        out.open(None);
        out.text("a\"b", "c\\d\n");
        out.close();
        assert_eq!(out.finish(), "{\n\t\"a\\\"b\":\"c\\\\d\\u000a\"\n}");
    }
}
