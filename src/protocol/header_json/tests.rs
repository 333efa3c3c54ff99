use super::*;
use proptest::prelude::*;

const SEND: &str = concat!(
    r#"{"code":310,"extFields":{"a":"ProducerGroup","b":"TopicTest","c":"TBW102","d":"4","#,
    r#""e":"2","f":"0","g":"1700000000000","h":"0","#,
    r#""i":"TAGS\u0001TagA\u0002WAIT\u0001true\u0002UNIQ_KEY\u0001AC110001000000000001\u0002","#,
    r#""j":"0","k":"false","m":"false"},"flag":0,"language":"JAVA","opaque":42,"#,
    r#""serializeTypeCurrentRPC":"JSON","version":399}"#
);

fn flat(header: &Header<'_>) -> (i32, i32, i32, i32, Language, Option<String>, bool) {
    let remark = header.remark.as_deref().map(str::to_owned);
    let Header { code, flag, opaque, version, language, .. } = *header;
    (code, flag, opaque, version, language, remark, header.ext.is_absent())
}

fn sorted(header: &Header<'_>) -> Vec<(String, String)> {
    let last = header.ext.to_vec().into_iter().collect::<std::collections::BTreeMap<_, _>>();
    last.into_iter().collect()
}

fn scan(text: &str) -> Option<Header<'_>> {
    let mut header = Header { language: Language::Unknown, ..Header::default() };
    super::scan(text, &mut header).map(|()| header)
}

fn agree(text: &str) {
    let fast = scan(text).expect("the usual shape");
    let slow = read_unusual(text.as_bytes()).expect("valid JSON");
    assert_eq!(flat(&fast), flat(&slow), "{text}");
    assert_eq!(sorted(&fast), sorted(&slow), "{text}");
}

#[test]
fn a_send_is_read_in_place() {
    agree(SEND);
    let header = scan(SEND).unwrap();
    assert_eq!((header.code, header.opaque, header.version), (310, 42, 399));
    assert_eq!(header.language, Language::Java);
    assert_eq!(header.ext.get("b").as_deref(), Some("TopicTest"));
    let properties = header.ext.get("i").unwrap();
    assert!(properties.starts_with("TAGS\u{1}TagA\u{2}WAIT\u{1}true\u{2}"));
    assert_eq!(header.ext.get("z"), None);
}

#[test]
fn unusual_headers_are_read_as_java_reads_them() {
    for (text, code, opaque) in [
        ("{}", 0, 0),
        (" { \"code\" : 34 , \"opaque\" : -1 } ", 34, -1),
        ("{code:34,'opaque':7,}", 34, 7),
        ("{\"code\":\"34\",\"opaque\":null,\"more\":[1,{}]}", 34, 0),
        ("{\"code\":34,\"extFields\":null,\"language\":9,\"remark\":null}", 34, 0),
        ("{\"code\":34,\"extFields\":{\"a\":{\"b\":1.5},\"c\":null}}\n", 34, 0),
    ] {
        assert!(scan(text).is_none(), "{text}");
        let header = read(text.as_bytes()).unwrap();
        assert_eq!((header.code, header.opaque), (code, opaque), "{text}");
    }
    let header = read(b"{\"code\":1,\"extFields\":{\"a\":{\"b\":1},\"c\":null}}").unwrap();
    assert_eq!(header.ext.to_vec(), [("a".to_owned(), "{\"b\":1}".to_owned())]);
    let header = read(b"{\"code\":1,\"language\":9}").unwrap();
    assert_eq!(header.language, Language::Go);
}

#[test]
fn bare_numbers_and_booleans_count_as_their_text() {
    let text = "{\"code\":11,\"extFields\":{\"queueId\":0,\"k\":true,\"d\":-4},\"opaque\":1}\n";
    agree(text);
    let header = scan(text).unwrap();
    assert_eq!(header.ext.get("d").as_deref(), Some("-4"));
    assert_eq!(header.ext.get("k").as_deref(), Some("true"));
}

#[test]
fn raw_control_characters_are_kept() {
    let header = read(b"{\"code\":1,\"extFields\":{\"i\":\"a\x01b\x02\"}}").unwrap();
    assert_eq!(header.ext.get("i").as_deref(), Some("a\u{1}b\u{2}"));
}

#[test]
fn what_is_no_header_says_why() {
    for (text, part) in [
        ("[]", "it is no JSON object"),
        ("{\"code\":99999999999}", "code is 99999999999, expected a 32-bit integer"),
        ("{\"code\":1,\"extFields\":3}", "extFields is no object"),
        ("{\"code\":1", "at byte 9"),
        ("{\"a\":[[[[[[[[[]]]]]]]]],}", "less nesting"),
    ] {
        let error = read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn every_truncation_is_an_error_and_flipped_bits_never_panic() {
    for size in 0..SEND.len() {
        assert!(read(&SEND.as_bytes()[..size]).is_err(), "{size} bytes");
    }
    for at in 0..SEND.len() {
        for bit in 0..8 {
            let mut bytes = SEND.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            if let Ok(header) = read(&bytes) {
                header.ext.to_vec();
            }
        }
    }
}

#[test]
fn a_special_byte_is_found_at_every_distance() {
    for size in 0..40 {
        for (before, found) in [(b'!', b'"'), (b'[', b'\\'), (0, b'"'), (1, b'\\'), (0x1f, b'"')] {
            let mut bytes = vec![before; size];
            bytes.push(found);
            bytes.extend_from_slice(b"#\xff\"\\");
            assert_eq!(special(&bytes, 0), size);
        }
    }
    assert_eq!(special(&[b'#'; 19], 3), 19);
}

prop_compose! {
    fn any_header()(
        (code, flag, opaque, version) in any::<(i32, i32, i32, i32)>(),
        language in 0..14_i64,
        remark in prop::option::of(any::<String>()),
        ext in prop::option::of(
            prop::collection::btree_map("[a-zA-Z_]{0,9}", any::<String>(), 0..20)
        ),
    ) -> (i32, i32, i32, i32, Language, Option<String>, Option<Vec<(String, String)>>) {
        let ext = ext.map(|ext| ext.into_iter().collect());
        (code, flag, opaque, version, Language::from_number(language), remark, ext)
    }
}

proptest! {
    #[test]
    fn what_is_written_is_scanned_and_read_alike(
        (code, flag, opaque, version, language, remark, ext) in any_header()
    ) {
        let remark = remark.as_deref();
        let parts = Parts { code, language, version, opaque, flag, remark };
        let mut out = BytesMut::new();
        let pairs = ext.as_ref().map(|ext| ext.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        write(&mut out, &parts, pairs);
        let text = std::str::from_utf8(&out).unwrap();
        let header = scan(text).unwrap();
        let remark = remark.map(str::to_owned);
        let wanted = (code, flag, opaque, version, language, remark, ext.is_none());
        prop_assert_eq!(flat(&header), wanted);
        prop_assert_eq!(header.ext.to_vec(), ext.unwrap_or_default());
        agree(text);
    }

    #[test]
    fn what_serde_json_writes_is_scanned_alike_when_it_is_flat(
        code in any::<i32>(),
        ext in prop::collection::btree_map("[a-z]{1,9}", "\\PC{0,20}|[\\x00-\\x7f]{0,12}", 1..20),
    ) {
        agree(&serde_json::json!({"code": code, "extFields": ext}).to_string());
    }

    #[test]
    fn the_scanner_takes_nothing_that_the_reader_refuses(
        text in concat!(
            "\\{(\"(code|flag|extFields|remark)\":",
            "(-?[0-9]{1,11}|\"[^\"]{0,6}\"|\\{\"[a-c]\":\"\\\\?[a-z\"]\"\\}|null),?){1,3}\\}"
        )
    ) {
        if scan(&text).is_some() {
            agree(&text);
        }
    }
}

#[test]
fn a_header_that_ends_anywhere_is_refused_and_nothing_else() {
    let more =
        r#"{"code":-1,"remark":"a\u0041","extFields":{"x":-2,"y":true,"z":"é\n"},"flag":-0}"#;
    for text in [SEND, more] {
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert!(scan(&text[..end]).is_none(), "{}", &text[..end]);
            assert!(read(&text.as_bytes()[..end]).is_err(), "{}", &text[..end]);
        }
    }
}
