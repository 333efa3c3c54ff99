//! Bytes captured from Java 4.9.3, each with its provenance in the file's first lines.

#![allow(clippy::unwrap_used)] // a test that cannot go on may stop here
#![allow(clippy::disallowed_methods)] // it reads the goldens, on the host

#[path = "golden/format.rs"]
mod format;

/// The text of `tests/golden/NAME` without its comment lines.
fn golden(name: &str) -> String {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// The bytes of a hex golden.
fn golden_bytes(name: &str) -> Vec<u8> {
    unhex(&golden(name))
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap_or_else(|| panic!("{c:?} is not hex")) as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
