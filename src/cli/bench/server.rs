//! The servers that say what is possible, on plain tokio: one thread, one task per connection,
//! one read, one append, one write per turn.

use crate::cli::Failure;
use crate::protocol::frame::{self, FRAME_SIZE_MAX, PREFIX_SIZE, Serialize};
use crate::protocol::header;
use crate::protocol::reply::{PullReply, SendReply, Stored, encode_pull_reply, encode_send_reply};
use crate::rt;
use bytes::{Buf, BytesMut};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// Units: bytes of one read.
const READ_SIZE: usize = 64 * 1024;
/// At this size the floor's file is replaced by an empty one, so that a long run neither fills
/// the disk nor writes over pages that it has already. Units: bytes.
const FILE_SIZE_MAX: u64 = 1 << 30;
/// What a record holds besides its body, about. Units: bytes.
const RECORD_HEAD_SIZE: usize = 180;

/// Answers every frame with the same reply, by its length alone.
pub fn echo(addr: &str) -> Result<(), Failure> {
    let mut reply = BytesMut::new();
    encode_reply(&mut reply, Serialize::Json, 0, 0);
    let reply: Rc<[u8]> = reply.to_vec().into();
    serve(addr, move |stream| {
        let reply = reply.clone();
        async move {
            turn(stream, |input, out| {
                while let Some(length) = input.first_chunk::<4>() {
                    let size = 4 + u32::from_be_bytes(*length) as usize;
                    if size > FRAME_SIZE_MAX {
                        return Err(io::Error::other(format!("a frame of {size} bytes")));
                    }
                    if input.len() < size {
                        break;
                    }
                    input.advance(size);
                    out.extend_from_slice(&reply);
                }
                Ok(())
            })
            .await
        }
    })
}

/// Does the least that an honest broker does with a send: cuts the frame, reads the header, takes
/// the CRC of the body, appends all of a read's records with one write, answers.
pub fn floor(addr: &str, file: &Path) -> Result<(), Failure> {
    let refused =
        |e: io::Error| Failure::new(Failure::REFUSED, format!("--file {}: {e}", file.display()));
    let path = file.to_path_buf();
    let file = new_file(&path).map_err(refused)?;
    let log = Rc::new(RefCell::new(Log { path, file, end: 0 }));
    serve(addr, move |stream| {
        let log = log.clone();
        async move {
            let mut batch = Vec::new();
            turn(stream, |input, out| log.borrow_mut().take(input, &mut batch, out)).await
        }
    })
}

/// In place of the one of this name, whose space goes back.
#[expect(clippy::disallowed_methods, reason = "the floor is measured without the product's disk")]
fn new_file(path: &Path) -> io::Result<File> {
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    File::create(path)
}

struct Log {
    path: PathBuf,
    file: File,
    end: u64,
}

impl Log {
    fn take(
        &mut self,
        input: &mut BytesMut,
        batch: &mut Vec<u8>,
        out: &mut BytesMut,
    ) -> io::Result<()> {
        batch.clear();
        while let Some(frame) = frame::cut(input, FRAME_SIZE_MAX).map_err(io::Error::other)? {
            let header = header::scan(&frame).map_err(io::Error::other)?;
            let crc = crc32fast::hash(&frame.body);
            let at = self.end + batch.len() as u64;
            batch.extend_from_slice(&crc.to_be_bytes());
            batch.extend_from_slice(&[0; RECORD_HEAD_SIZE]);
            batch.extend_from_slice(&frame.body);
            encode_reply(out, frame.serialize, header.opaque, at);
        }
        self.file.write_all(batch)?;
        self.end += batch.len() as u64;
        if self.end > FILE_SIZE_MAX {
            self.file = new_file(&self.path)?;
            self.end = 0;
        }
        Ok(())
    }
}

fn encode_reply(out: &mut BytesMut, serialize: Serialize, opaque: i32, at: u64) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut id = *b"7F00000100002A9F0000000000000000";
    for (place, digit) in id[16..].iter_mut().rev().enumerate() {
        *digit = DIGITS[(at >> (4 * place) & 15) as usize];
    }
    let stored = Stored {
        message_id: std::str::from_utf8(&id).unwrap_or_default(),
        queue_id: 0,
        queue_offset: at as i64,
    };
    let reply = SendReply {
        opaque,
        code: 0,
        remark: None,
        stored: Some(stored),
        region: "DefaultRegion",
        is_traced: true,
    };
    encode_send_reply(out, serialize, &reply);
}

/// Answers each pull with the next `count` records of a file: one read, one write. The records
/// must have one size.
pub fn copy(addr: &str, path: &Path, count: u32) -> Result<(), Failure> {
    let refused =
        |e: io::Error| Failure::new(Failure::REFUSED, format!("--file {}: {e}", path.display()));
    let (file, size, end) = records(path, count).map_err(refused)?;
    let (file, at) = (Rc::new(file), Rc::new(Cell::new(0)));
    serve(addr, move |stream| {
        let (file, at) = (file.clone(), at.clone());
        async move {
            turn(stream, |input, out| {
                while let Some(frame) =
                    frame::cut(input, FRAME_SIZE_MAX).map_err(io::Error::other)?
                {
                    let header = header::scan(&frame).map_err(io::Error::other)?;
                    let reply = PullReply {
                        opaque: header.opaque,
                        code: 0,
                        remark: Some("FOUND"),
                        suggest_which_broker_id: 0,
                        next_begin_offset: at.get() as i64,
                        min_offset: 0,
                        max_offset: end as i64,
                        body_size: size,
                    };
                    encode_pull_reply(out, frame.serialize, &reply);
                    let body_at = out.len();
                    out.resize(body_at + size, 0);
                    file.read_exact_at(&mut out[body_at..], at.get())?;
                    at.set(if at.get() + 2 * size as u64 > end {
                        0
                    } else {
                        at.get() + size as u64
                    });
                }
                Ok(())
            })
            .await
        }
    })
}

/// The file, the size of `count` records, and where its records end.
#[expect(clippy::disallowed_methods, reason = "the limit is measured without the product's disk")]
fn records(path: &Path, count: u32) -> io::Result<(File, usize, u64)> {
    let file = File::open(path)?;
    let mut size = [0; 4];
    file.read_exact_at(&mut size, 0)?;
    let size = u64::from(u32::from_be_bytes(size));
    let (mut end, mut head) = (0, [0; 4]);
    while file.read_exact_at(&mut head, end).is_ok() && u64::from(u32::from_be_bytes(head)) == size
    {
        end += size.max(1);
    }
    let size = size * u64::from(count);
    if size == 0 || end < size {
        return Err(io::Error::other(format!(
            "it does not begin with {count} records of one size"
        )));
    }
    Ok((file, size as usize, end))
}

/// Reads, lets `answer` take whole frames, writes, until the peer closes.
async fn turn(
    mut stream: TcpStream,
    mut answer: impl FnMut(&mut BytesMut, &mut BytesMut) -> io::Result<()>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BytesMut::with_capacity(READ_SIZE);
    let mut out = BytesMut::with_capacity(READ_SIZE);
    loop {
        let wanted = input.first_chunk::<4>().map_or(0, |length| {
            (u32::from_be_bytes(*length) as usize).min(FRAME_SIZE_MAX) + PREFIX_SIZE
        });
        input.reserve(wanted.max(READ_SIZE / 2).saturating_sub(input.len()));
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        answer(&mut input, &mut out)?;
        stream.write_all(&out).await?;
        out.clear();
    }
}

/// Serves until a signal comes.
fn serve<F, Fut>(addr: &str, on_connection: F) -> Result<(), Failure>
where
    F: Fn(TcpStream) -> Fut,
    Fut: Future<Output = io::Result<()>> + 'static,
{
    rt::block_on(LocalSet::new().run_until(async {
        let refused =
            |e: io::Error| Failure::new(Failure::REFUSED, format!("--listen {addr}: {e}"));
        let listener = TcpListener::bind(addr).await.map_err(refused)?;
        println!("listening on {}", listener.local_addr().map_err(refused)?);
        let mut signal = std::pin::pin!(rt::shutdown_signal());
        loop {
            let (stream, peer) = rt::select! {
                _ = &mut signal => return Ok(()),
                accepted = listener.accept() => accepted.map_err(refused)?,
            };
            let connection = on_connection(stream);
            tokio::task::spawn_local(async move {
                if let Err(e) = connection.await {
                    eprintln!("{peer}: {e}");
                }
            });
        }
    }))
}
