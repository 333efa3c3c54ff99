//! Long-lived read mappings of files, and views of their bytes that are known to be there.
//!
//! A page of a mapping that cannot be read (a bad sector, a file cut short) is a SIGBUS for whoever
//! touches it. So nobody touches what is not known to be there: `mincore` says that it is in the
//! page cache, or `MADV_POPULATE_READ` on exactly the range brings it in or says why not. Views
//! that wait in a socket's queue are read by the kernel alone, for which a page that went bad
//! meanwhile is EFAULT.

use bytes::Bytes;
use memmap2::{Advice, Mmap, MmapMut, MmapOptions};
use std::fs;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Units: bytes. `mincore` answers per page of this size, whatever the file's folios are.
const PAGE_SIZE: usize = 4096;

/// Ranges of more pages are looked at in the blocking pool. Units: pages.
const PAGES_NOW_MAX: usize = 256;

/// Whether this kernel can populate a mapping (Linux 5.14) and has pages of the expected size.
pub fn is_supported() -> bool {
    let probe = MmapMut::map_anon(PAGE_SIZE);
    probe.and_then(|map| map.advise(Advice::PopulateRead)).is_ok()
        && rustix::param::page_size() == PAGE_SIZE
}

/// All of a file, as long as it was when it was mapped.
pub struct Mapping(Mmap);

impl Mapping {
    #[expect(unsafe_code, reason = "a mapping has no safe constructor: another may write the file")]
    pub fn new(file: &fs::File, size: u64) -> io::Result<Arc<Self>> {
        let size = usize::try_from(size).map_err(io::Error::other)?;
        // SAFETY: views are made of ranges that are never written again (`File::view`), and a file
        // is never shortened while it is open. What others do to the file shows as other bytes.
        let map = unsafe { MmapOptions::new().len(size).map(file) }?;
        Ok(Arc::new(Mapping(map)))
    }

    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Brings the range in, from the device if need be, and gives a view of it.
    /// Errors: what reading the range would say; EFAULT past the end of a file cut short.
    pub fn view(self: &Arc<Self>, range: Range<usize>) -> io::Result<Bytes> {
        self.0.advise_range(Advice::PopulateRead, range.start, range.len())?;
        Ok(Bytes::from_owner(View { mapping: self.clone(), range }))
    }

    /// A view when every page of the range is in the page cache. Nothing is populated: a page that
    /// was read without an error costs whoever touches it no more than a minor fault.
    pub fn view_now(self: &Arc<Self>, range: Range<usize>) -> Option<Bytes> {
        let view = View { mapping: self.clone(), range };
        self.is_resident(&view.range).then(|| Bytes::from_owner(view))
    }

    #[expect(unsafe_code, reason = "no safe crate in the tree offers mincore")]
    fn is_resident(&self, range: &Range<usize>) -> bool {
        let from = range.start / PAGE_SIZE * PAGE_SIZE;
        let count = (range.end - from).div_ceil(PAGE_SIZE);
        if count > PAGES_NOW_MAX || range.end > self.0.len() {
            return false;
        }
        let mut pages = [0; PAGES_NOW_MAX];
        let at = self.0[from..].as_ptr();
        // SAFETY: the pages lie in this mapping, and `pages` has a byte for each of them.
        let rc = unsafe { libc::mincore(at as _, range.end - from, pages.as_mut_ptr()) };
        rc == 0 && pages[..count].iter().all(|page| page & 1 == 1)
    }
}

/// Keeps the mapping alive, and with it the file's blocks.
struct View {
    mapping: Arc<Mapping>,
    range: Range<usize>,
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        &self.mapping.0[self.range.clone()]
    }
}

/// Copies bytes that were a view for a while: a page that went bad meanwhile is an error.
/// It may wait for the device, so it is for the rare reader who is very slow.
/// Errors: EFAULT; EPERM where the system call is not allowed.
#[expect(unsafe_code, reason = "the kernel copies: it gets an error where we would get a signal")]
pub fn copy_view(bytes: &Bytes) -> io::Result<Bytes> {
    let mut copy = vec![0_u8; bytes.len()];
    let to = libc::iovec { iov_base: copy.as_mut_ptr().cast(), iov_len: copy.len() };
    let from = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: both ranges are this process's own and live through the call; `copy` alone is
    // written, and is as long as `bytes`.
    let done = unsafe { libc::process_vm_readv(libc::getpid(), &to, 1, &from, 1, 0) };
    match usize::try_from(done) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(done) if done < bytes.len() => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        Ok(_) => Ok(copy.into()),
    }
}
