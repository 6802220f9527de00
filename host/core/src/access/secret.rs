//! A token's text: its row's id and its secret.

use crate::store::TokenId;

/// What every token begins with, so that scanners of leaked secrets can tell one.
const PREFIX: &str = "hor_";
/// Hexadecimal digits of a token's secret: 256 bits.
const SECRET_DIGITS: usize = 64;

/// A new secret, as hex.
pub fn new_secret() -> String {
    let random: [u8; SECRET_DIGITS / 2] = rand::random();
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What of a secret is kept.
pub fn hash_of(secret: &str) -> String {
    blake3::hash(secret.as_bytes()).to_hex().to_string()
}

/// A token's text: the only time its secret is seen.
pub fn text_of(id: TokenId, secret: &str) -> String {
    format!("{PREFIX}{id}_{secret}")
}

/// In the same time whatever the secret (`blake3::Hash` compares so).
pub(super) fn is_hash_of(hash: &str, secret: &str) -> bool {
    blake3::Hash::from_hex(hash).is_ok_and(|hash| hash == blake3::hash(secret.as_bytes()))
}

/// The id and the secret of a text that can be a token.
pub(super) fn parse(text: &str) -> Option<(TokenId, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let fits = secret.len() == SECRET_DIGITS && secret.bytes().all(|b| b.is_ascii_hexdigit());
    let digits = id.len() <= 16 && id.bytes().all(|b| b.is_ascii_digit());
    (fits && digits).then_some(())?;
    Some((id.parse().ok()?, secret))
}
