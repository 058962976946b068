//! Secrets, and what is taken for one by mistake.
//!
//! Owns: what may be a secret, and how the refusal of a key reads. Must not know: what it is for. Invariant: nothing that is
//! made to be public is one, in any of the forms that public keys travel in: everybody who has it could sign. Bytes of no form
//! (the 32 of an Ed25519 key, say) cannot be told from random ones.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::digest;
use thiserror::Error;

use super::der;

/// The shortest secret: as long as what the hash gives (RFC 7518, 3.2).
const MIN_BYTES: usize = digest::SHA256_OUTPUT_LEN;

/// What stands before a key of OpenSSH in base64.
const OF_SSH: [&str; 4] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];

/// Base64 with or without padding.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Why a key cannot be used. The text never has any of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct KeyError(String);

impl KeyError {
    pub(super) fn new(why: String) -> Self {
        Self(why)
    }
}

pub(super) fn wrong(why: &str) -> KeyError {
    KeyError(why.to_owned())
}

/// Refuses what is no secret, or too short for one; the error says why, and nothing of it.
pub fn check_secret(given: &[u8]) -> Result<(), KeyError> {
    if let Ok(text) = std::str::from_utf8(given) {
        if text.contains("-----BEGIN ") {
            return Err(wrong("a PEM is no secret: give HS256 random bytes, or the algorithm of that key"));
        }
        if is_json(text) {
            return Err(wrong("JSON is no secret: a JWK is given as a mapping, a public one with its own algorithm"));
        }
        if is_key_in_text(text) {
            return Err(wrong("it is a key that others have, not a secret: give random bytes"));
        }
    }
    if is_key(given) {
        return Err(wrong("it is a key that others have, not a secret: give random bytes"));
    }
    if given.len() < MIN_BYTES {
        return Err(KeyError::new(format!("a secret has {MIN_BYTES} bytes or more: it has {}", given.len())));
    }
    Ok(())
}

/// Whether it is a JWK, or a set of them.
fn is_json(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    text.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// A public key of SSH, or any in base64.
fn is_key_in_text(text: &str) -> bool {
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let of_ssh = |pair: &[&str]| OF_SSH.iter().any(|kind| pair[0].starts_with(kind)) && pair[1].starts_with("AAAA");
    if text.contains("---- BEGIN SSH2 ") || words.windows(2).any(of_ssh) {
        return true;
    }
    let joined = words.concat();
    [STANDARD.decode(&joined), URL_SAFE.decode(&joined)].into_iter().flatten().any(|bytes| is_key(&bytes))
}

/// The bytes that a PEM or a line of SSH holds.
fn is_key(bytes: &[u8]) -> bool {
    let of_ssh = bytes.split_first_chunk::<4>().is_some_and(|(length, rest)| {
        let kind = usize::try_from(u32::from_be_bytes(*length)).ok().and_then(|length| rest.get(..length));
        kind.is_some_and(|kind| OF_SSH.iter().any(|known| kind.starts_with(known.as_bytes())))
    });
    of_ssh || der::is_structure(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ed25519 key as it is published in DER.
    const DER: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00\
        \xd7\x5a\x98\x01\x82\xb1\x0a\xb7\xd5\x4b\xfe\xd3\xc9\x64\x07\x3a\
        \x0e\xe1\x72\xf3\xda\xa6\x23\x25\xaf\x02\x1a\x68\xf7\x07\x51\x1a";
    const IN_BASE64: &str = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    const OF_SSH: &str = "AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";

    #[test]
    fn what_others_have_is_no_secret_in_whatever_form() {
        // An RSAPublicKey: modulus and exponent.
        let numbers = [b"\x30\x82\x01\x0a\x02\x82\x01\x01\x00", &[0xc3; 256][..], b"\x02\x03\x01\x00\x01"].concat();
        // A certificate: what is signed, the algorithm, the signature.
        let certificate = [b"\x30\x2c\x30\x10", &[0x0c; 16][..], b"\x30\x05\x06\x03\x2b\x65\x70\x03\x11\x00", &[7; 16]];
        let jwk = r#"{"kty":"RSA","n":"AQABAQABAQABAQABAQABAQABAQABAQABAQAB","e":"AQAB"}"#;
        for given in [
            DER,
            &numbers,
            &certificate.concat(),
            IN_BASE64.as_bytes(),
            IN_BASE64.trim_end_matches('=').as_bytes(),
            format!("{}\n{}\n", &IN_BASE64[..40], &IN_BASE64[40..]).as_bytes(),
            IN_BASE64.replace('/', "_").as_bytes(),
            OF_SSH.as_bytes(),
            format!("ssh-ed25519 {OF_SSH} ann@example").as_bytes(),
            format!("restrict ssh-ed25519 {OF_SSH}").as_bytes(),
            b"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY",
            format!("---- BEGIN SSH2 PUBLIC KEY ----\n{OF_SSH}\n---- END SSH2 PUBLIC KEY ----").as_bytes(),
            jwk.as_bytes(),
            format!(" \n{jwk}\n").as_bytes(),
            format!("{{\"keys\":[{jwk}]}}").as_bytes(),
            format!("[{jwk}]").as_bytes(),
            b"  -----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS",
        ] {
            let refused = check_secret(given).map_err(|error| error.to_string());
            assert!(refused.is_err_and(|why| !why.contains("bytes or more")), "{:?}", String::from_utf8_lossy(given));
        }
    }

    #[test]
    fn what_is_random_is_a_secret_whatever_it_looks_like() {
        let mut changed = DER.to_vec();
        changed[1] += 1;
        for given in [
            &changed[..],
            &DER[..DER.len() - 1],
            &[b"\x30\x1e", &[0x77; 30][..]].concat(),
            &[b"\x30\x1e\x04\x1c", &[0x77; 28][..]].concat(),
            &[b"\x30\x1e\x04\x02aa\x04\x02aa", &[0x77; 22][..]].concat(),
            b"the passphrase of my ssh-key, which is long",
            &[0x30; 32],
            &[0; 32],
            &[0xff; 64],
            b"0123456789abcdef0123456789abcdef",
            b"a secret of 32 bytes or a few more",
            b"{not JSON, but long enough to be one secret}",
            b"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA",
            b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(check_secret(given), Ok(()), "{:?}", String::from_utf8_lossy(given));
        }
        assert!(check_secret(&[7; 31]).is_err_and(|error| error.to_string().contains("32 bytes or more: it has 31")));
    }
}
