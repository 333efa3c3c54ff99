use bytes::{Bytes, BytesMut};
use hotfire::protocol::{
    frame::{self, Frame, Serialize},
    header::{self, send::SendMessageHeader},
    reply::*,
};
fn main() {
    let text = concat!(
        r#"{"code":310,"extFields":{"a":"ProducerGroup","b":"TopicTest","c":"TBW102","d":"4","#,
        r#""e":"2","f":"0","g":"1700000000000","h":"0","#,
        r#""i":"TAGS\u0001TagA\u0002WAIT\u0001true\u0002UNIQ_KEY\u0001AC1100010000000000000001\u0002","#,
        r#""j":"0","k":"false","m":"false"},"flag":0,"language":"JAVA","opaque":42,"#,
        r#""serializeTypeCurrentRPC":"JSON","version":399}"#
    );
    println!("{} bytes", text.len());
    let f = Frame {
        serialize: Serialize::Json,
        header: Bytes::from_static(text.as_bytes()),
        body: Bytes::new(),
    };
    let n = 3_000_000;
    for _ in 0..3 {
        let t = now();
        let mut s = 0i64;
        for _ in 0..n {
            let h = header::scan(std::hint::black_box(&f)).unwrap();
            s += h.opaque as i64;
            std::hint::black_box(&h);
        }
        println!("scan {:?} ns", (now() - t) as f64 / n as f64);
        let t = now();
        for _ in 0..n {
            let h = header::scan(std::hint::black_box(&f)).unwrap();
            let m = SendMessageHeader::decode(310, &h.ext).unwrap();
            s += m.born_timestamp;
            std::hint::black_box(&m);
        }
        println!("scan+decode {:?} ns", (now() - t) as f64 / n as f64);
        let mut out = BytesMut::with_capacity(4096);
        let t = now();
        for i in 0..n {
            out.clear();
            encode_send_reply(
                &mut out,
                Serialize::Json,
                &SendReply {
                    opaque: i,
                    code: 0,
                    remark: None,
                    stored: Some(Stored {
                        message_id: "0A000001000029CC0000000000000123",
                        queue_id: 3,
                        queue_offset: 123456 + i as i64,
                    }),
                    region: "DefaultRegion",
                    is_traced: true,
                },
            );
            std::hint::black_box(&out);
        }
        println!("reply {:?} ns, {} bytes", (now() - t) as f64 / n as f64, out.len());
        let t = now();
        for i in 0..n {
            out.clear();
            encode_pull_reply(
                &mut out,
                Serialize::Json,
                &PullReply {
                    opaque: i,
                    code: 0,
                    remark: Some("FOUND"),
                    suggest_which_broker_id: 0,
                    next_begin_offset: 123456,
                    min_offset: 0,
                    max_offset: 1234567,
                    body_size: 5000,
                },
            );
            std::hint::black_box(&out);
        }
        println!("pull reply {:?} ns", (now() - t) as f64 / n as f64);
        let mut one = BytesMut::new();
        one.extend_from_slice(&((4 + text.len() + 1024) as u32).to_be_bytes());
        one.extend_from_slice(&(text.len() as u32).to_be_bytes());
        one.extend_from_slice(text.as_bytes());
        one.extend_from_slice(&[7; 1024]);
        let mut many = BytesMut::new();
        for _ in 0..64 {
            many.extend_from_slice(&one);
        }
        let m = 20000;
        let mut total = 0u128;
        for _ in 0..m {
            let mut b = BytesMut::from(&many[..]);
            let t = now();
            while let Some(f) = frame::cut(&mut b, 1 << 24).unwrap() {
                std::hint::black_box(&f);
            }
            total += (now() - t);
        }
        println!("cut {} ns", total as f64 / (m * 64) as f64);
        let t = now();
        for _ in 0..300000 {
            let v: serde_json::Value =
                serde_json::from_slice(std::hint::black_box(text.as_bytes())).unwrap();
            std::hint::black_box(&v);
        }
        println!("serde {} ns", (now() - t) as f64 / 300000.0);
        println!("{s}");
    }
}
fn now() -> u128 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as u128 * 1_000_000_000 + t.tv_nsec as u128
}
