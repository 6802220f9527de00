//! What our compiler made of a component, on its way from where it was kept to where it runs.

use std::io::{self, Write};
use std::sync::Arc;

/// Compiled code, unchanged since our compiler made it.
pub(crate) enum Artifact {
    /// In memory of this process.
    Bytes(Arc<Vec<u8>>),
    /// In a file that nobody can change any more.
    #[cfg(target_os = "linux")]
    Sealed(sealed::Sealed),
}

impl Artifact {
    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            #[cfg(target_os = "linux")]
            Self::Sealed(sealed) => sealed.len(),
        }
    }
}

/// Where code is put, part by part, that will be run from there: on Linux into a file without a name, in memory, which is
/// mapped and not copied. Elsewhere, and where the system does not allow such files, into a buffer.
pub(crate) struct Landing {
    bytes: Vec<u8>,
    #[cfg(target_os = "linux")]
    file: Option<std::fs::File>,
}

impl Landing {
    /// Empty; `size` bytes are expected.
    pub(crate) fn new(size: usize) -> Self {
        #[cfg(target_os = "linux")]
        if let Some(file) = sealed::create() {
            return Self {
                bytes: Vec::new(),
                file: Some(file),
            };
        }
        Self::buffer(size)
    }

    /// An empty buffer, whatever the system allows.
    pub(crate) fn buffer(size: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(size),
            #[cfg(target_os = "linux")]
            file: None,
        }
    }

    /// What was put there. It cannot be changed any more.
    ///
    /// # Errors
    /// When the system does not protect it.
    pub(crate) fn finish(self) -> io::Result<Artifact> {
        #[cfg(target_os = "linux")]
        if let Some(file) = self.file {
            return sealed::Sealed::new(file).map(Artifact::Sealed);
        }
        Ok(Artifact::Bytes(Arc::new(self.bytes)))
    }
}

impl Write for Landing {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        #[cfg(target_os = "linux")]
        if let Some(file) = &mut self.file {
            return file.write(part);
        }
        self.bytes.write(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
pub(crate) mod sealed {
    //! Files without a name, in memory (`memfd_create(2)`).

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};

    /// A file that nobody can change any more, not even who holds it open.
    pub(crate) struct Sealed {
        file: File,
        len: usize,
    }

    /// Where a process finds the files it holds open.
    const OPEN_FILES: &str = "/proc/self/fd";

    /// An empty one that may be sealed; none where the system does not allow it, or it could not be opened to be mapped.
    pub(super) fn create() -> Option<File> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let made = memfd_create("horarium-code", flags).ok()?;
        Path::new(OPEN_FILES).exists().then(|| File::from(made))
    }

    impl Sealed {
        pub(super) fn new(file: File) -> io::Result<Self> {
            let seals = SealFlag::F_SEAL_WRITE
                | SealFlag::F_SEAL_GROW
                | SealFlag::F_SEAL_SHRINK
                | SealFlag::F_SEAL_SEAL;
            fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
            let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
            Ok(Self { file, len })
        }

        pub(super) fn len(&self) -> usize {
            self.len
        }

        /// A copy of what is in it.
        pub(crate) fn bytes(&self) -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; self.len];
            self.file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        }

        /// A path under which this process can open it.
        pub(crate) fn path(&self) -> PathBuf {
            Path::new(OPEN_FILES).join(self.file.as_raw_fd().to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_there_is_there_and_cannot_be_changed() {
        let mut landing = Landing::new(5);
        landing.write_all(b"co").expect("takes it");
        landing.write_all(b"de!").expect("takes it");
        let artifact = landing.finish().expect("is protected");
        assert_eq!(artifact.len(), 5);
        match artifact {
            Artifact::Bytes(bytes) => assert_eq!(**bytes, *b"code!"),
            #[cfg(target_os = "linux")]
            Artifact::Sealed(sealed) => {
                let path = sealed.path();
                assert_eq!(std::fs::read(&path).expect("reads"), b"code!");
                assert_eq!(sealed.bytes().expect("reads"), b"code!");
                let mut file = std::fs::OpenOptions::new().write(true).open(&path);
                let written = file.as_mut().map(|file| file.write_all(b"bad"));
                assert!(!matches!(written, Ok(Ok(()))), "{written:?}");
            }
        }
    }
}
