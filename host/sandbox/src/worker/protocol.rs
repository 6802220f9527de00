//! What parent and child say to each other: frames of a kind, a length and bytes.

use crate::engine::CodeProfile;
use horarium_core::runner::Inspection;
use horarium_model::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::{self, Read, Write};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest frame: an artifact is a few times its component.
const MAX_FRAME: u64 = 2 << 30;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Parent: a [`Job`].
    Job = b'J',
    /// Parent: the component's bytes.
    Bytes = b'B',
    /// Parent: compile now.
    Go = b'G',
    /// Child: the [`Inspection`] of a component that passed the checks.
    Checked = b'C',
    /// Child: a sentence on why the component is refused.
    Refused = b'R',
    /// Child: compiled code.
    Artifact = b'A',
    /// Child: [`Described`]; the last frame of a component.
    Described = b'D',
    /// Child: a sentence on why compiling or describing failed.
    Failed = b'F',
    /// Child: [`Verdict`] on documents.
    Verdict = b'V',
}

impl Kind {
    fn read(byte: u8) -> io::Result<Self> {
        let all = [
            Self::Job,
            Self::Bytes,
            Self::Go,
            Self::Checked,
            Self::Refused,
            Self::Artifact,
            Self::Described,
            Self::Failed,
            Self::Verdict,
        ];
        all.into_iter()
            .find(|kind| *kind as u8 == byte)
            .ok_or_else(|| io::Error::other("a frame of an unknown kind"))
    }
}

/// What the child is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Job {
    /// Check, compile and describe the component in the next frame.
    Component {
        /// What code generation depends on.
        profile: CodeProfile,
        /// Whether to call `describe`.
        describe: bool,
    },
    /// Check documents against a schema.
    Schema {
        /// The schema.
        schema: Value,
        /// The documents.
        documents: Vec<Value>,
    },
}

/// What `describe` answered, none where there is none.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Described(pub(super) Option<Value>);

/// The problems of each document, or why the schema cannot be used.
pub(super) type Verdict = Result<Vec<Vec<Problem>>, Problem>;

/// The child's first answer.
pub(super) type CheckAnswer = Result<Inspection, String>;

fn head(kind: Kind, length: usize) -> [u8; 9] {
    let mut head = [kind as u8; 9];
    head[1..].copy_from_slice(&(length as u64).to_le_bytes());
    head
}

fn parse_head(head: [u8; 9]) -> io::Result<(Kind, usize)> {
    let mut length = [0; 8];
    length.copy_from_slice(&head[1..]);
    let length = u64::from_le_bytes(length);
    if length > MAX_FRAME {
        return Err(io::Error::other("a frame beyond every limit"));
    }
    let length = usize::try_from(length).map_err(io::Error::other)?;
    Ok((Kind::read(head[0])?, length))
}

/// Writes one frame.
pub(super) fn write(out: &mut impl Write, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&head(kind, bytes.len()))?;
    out.write_all(bytes)?;
    out.flush()
}

/// Reads one frame.
pub(super) fn read(input: &mut impl Read) -> io::Result<(Kind, Vec<u8>)> {
    let mut head = [0; 9];
    input.read_exact(&mut head)?;
    let (kind, length) = parse_head(head)?;
    let mut bytes = Vec::new();
    input.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((kind, bytes))
}

/// [`write`], without blocking.
pub(super) async fn send(
    out: &mut (impl AsyncWrite + Unpin),
    kind: Kind,
    bytes: &[u8],
) -> io::Result<()> {
    out.write_all(&head(kind, bytes.len())).await?;
    out.write_all(bytes).await?;
    out.flush().await
}

/// [`read`], without blocking.
pub(super) async fn receive(input: &mut (impl AsyncRead + Unpin)) -> io::Result<(Kind, Vec<u8>)> {
    let mut head = [0; 9];
    input.read_exact(&mut head).await?;
    let (kind, length) = parse_head(head)?;
    let mut bytes = Vec::new();
    input.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((kind, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_cut_ones_are_errors() {
        let mut wire = Vec::new();
        write(&mut wire, Kind::Checked, b"abc").unwrap();
        assert_eq!(
            read(&mut &wire[..]).unwrap(),
            (Kind::Checked, b"abc".to_vec())
        );
        for cut in 0..wire.len() {
            assert!(read(&mut &wire[..cut]).is_err(), "{cut}");
        }
        wire[0] = b'?';
        assert!(read(&mut &wire[..]).is_err());
        let endless = [b'C', 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(read(&mut &endless[..]).is_err());
    }
}
