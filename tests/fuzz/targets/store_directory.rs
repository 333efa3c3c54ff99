//! A damaged store directory, opened through the store.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotfire_fuzz::store::open_edited(data));
