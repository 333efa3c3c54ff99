//! The small JSON files under `config/`, in Apache's shape, replaced as a whole.
//!
//! `NAME` is the newest generation and `NAME.bak` the one before it, as in 4.9.3, but each is
//! written to a temporary name, synced, renamed, and its directory synced: after a crash one of
//! both is whole. A file that is empty or cannot be parsed means "the generation before it", said
//! loudly, and when neither can be read the broker does not start: never "empty" (W-52, W-53).

use super::super::error::Error;
use crate::disk::{self, Disk};
use crate::rt::time::Clock;
use std::io;
use std::sync::Arc;

/// Units: bytes. A file above this is refused rather than read.
pub const SIZE_MAX: u64 = 1 << 30;

/// One state file.
pub struct StateFile {
    disk: Arc<dyn Disk>,
    path: String,
    /// What the file holds now; becomes `.bak` at the next save.
    current: Option<Vec<u8>>,
}

/// Where the state came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Neither file exists: a new broker.
    New,
    Current,
    /// The newest generation was missing or broken; the text says how.
    Backup(String),
}

impl StateFile {
    pub fn new(disk: Arc<dyn Disk>, root: &str, name: &str) -> Self {
        StateFile { disk, path: format!("{root}/config/{name}"), current: None }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// Reads the newest generation that `parse` accepts. An error of the disk is tried again before
    /// it counts.
    /// Errors: both generations are unreadable, with the reasons.
    /// Source: ConfigManager#load (4.9.3). Differs: an empty backup is a broken one.
    pub async fn load<T>(
        &mut self,
        clock: &Clock,
        parse: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<(Option<T>, Origin), Error> {
        let newest = match self.read(clock, &self.path, &parse).await {
            Ok(Some((bytes, value))) => {
                self.current = Some(bytes);
                return Ok((Some(value), Origin::Current));
            }
            other => other.err(),
        };
        let backup = self.read(clock, &format!("{}.bak", self.path), &parse).await;
        let fault = newest.clone().unwrap_or_else(|| "the file is missing".to_owned());
        match (backup, newest) {
            (Ok(Some((bytes, value))), _) => {
                crate::rt::probe!("broker: state taken from the backup");
                self.current = Some(bytes);
                Ok((Some(value), Origin::Backup(fault)))
            }
            (Ok(None), None) => Ok((None, Origin::New)),
            (Ok(None), Some(_)) => Err(self.unreadable(&fault, "is missing")),
            (Err(reason), _) => Err(self.unreadable(&fault, &reason)),
        }
    }

    fn unreadable(&self, fault: &str, backup: &str) -> Error {
        let path = self.path.clone();
        let advice = "repair one of them, or remove both to start without this state";
        Error::StateFile { reason: format!("{fault}; {path}.bak {backup}; {advice}"), path }
    }

    async fn read<T>(
        &self,
        clock: &Clock,
        path: &str,
        parse: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<Option<(Vec<u8>, T)>, String> {
        let read = disk::read_small_again(&*self.disk, clock, path, SIZE_MAX).await;
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        if bytes.iter().all(|b| b.is_ascii_whitespace() || *b == 0) {
            return Err(format!("{} bytes without content", bytes.len()));
        }
        let value = parse(&bytes)?;
        Ok(Some((bytes.to_vec(), value)))
    }

    /// Makes `text` the newest generation and keeps the one before it.
    /// Durable on return: the new text. After an error the old one is still whole.
    pub async fn save(&mut self, text: String) -> Result<(), Error> {
        let failed = |source| Error::StateFileWrite { path: self.path.clone(), source };
        let dir = disk::parent(&self.path);
        self.disk.make_dir(dir).map_err(failed)?;
        if let Some(old) = &self.current {
            let backup = format!("{}.bak", self.path);
            disk::replace_small(&*self.disk, &backup, old).await.map_err(failed)?;
        } else {
            self.disk.sync_dir(disk::parent(dir)).await.map_err(failed)?;
        }
        crate::rt::fault::point("broker: between the backup and the state file").await;
        disk::replace_small(&*self.disk, &self.path, text.as_bytes()).await.map_err(failed)?;
        self.current = Some(text.into_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;

    fn parse(bytes: &[u8]) -> Result<String, String> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if text.starts_with('{') { Ok(text) } else { Err(format!("no object: {text:?}")) }
    }

    struct Place {
        dir: tempfile::TempDir,
        disk: Arc<dyn Disk>,
        clock: Clock,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Place { dir, disk: Arc::new(RealDisk::new()), clock: Clock::new() }
        }
        fn file(&self) -> StateFile {
            StateFile::new(self.disk.clone(), self.dir.path().to_str().unwrap(), "x.json")
        }
        fn break_file(&self, name: &str, text: &str) {
            let path = format!("{}/config/{name}", self.dir.path().to_str().unwrap());
            let file = self.disk.open_or_create(&path).unwrap();
            file.set_size(0).unwrap();
            file.write_at(0, text.as_bytes()).unwrap();
        }
    }

    #[test]
    fn each_save_keeps_the_generation_before_it() {
        crate::rt::block_on(async {
            let place = Place::new();
            let mut file = place.file();
            assert_eq!(file.load(&place.clock, parse).await.unwrap(), (None, Origin::New));
            file.save("{1}".to_owned()).await.unwrap();
            file.save("{2}".to_owned()).await.unwrap();
            let (value, origin) = place.file().load(&place.clock, parse).await.unwrap();
            assert_eq!((value.as_deref(), origin), (Some("{2}"), Origin::Current));
            place.break_file("x.json", "garbage");
            let (value, origin) = place.file().load(&place.clock, parse).await.unwrap();
            assert_eq!(value.as_deref(), Some("{1}"));
            assert!(matches!(origin, Origin::Backup(reason) if reason.contains("garbage")));
        });
    }

    #[test]
    fn a_broken_file_without_a_good_backup_is_an_error_and_never_empty() {
        crate::rt::block_on(async {
            let place = Place::new();
            place.file().save("{1}".to_owned()).await.unwrap();
            place.break_file("x.json", "\0\0\0");
            let error = place.file().load(&place.clock, parse).await.unwrap_err().to_string();
            assert!(error.contains("x.json") && error.contains("without content"), "{error}");
            place.break_file("x.json.bak", "");
            assert!(place.file().load(&place.clock, parse).await.is_err());
        });
    }

    #[test]
    fn a_missing_file_with_a_backup_is_javas_crash_between_delete_and_rename() {
        crate::rt::block_on(async {
            let place = Place::new();
            place.file().save("{1}".to_owned()).await.unwrap();
            place.break_file("x.json.bak", "{0}");
            place.disk.remove(place.file().path()).unwrap();
            let (value, origin) = place.file().load(&place.clock, parse).await.unwrap();
            assert_eq!(value.as_deref(), Some("{0}"));
            assert_eq!(origin, Origin::Backup("the file is missing".to_owned()));
        });
    }
}
