//! As much of DER as a public key needs, and to be known by (`SubjectPublicKeyInfo` of X.509, `RSAPublicKey` of PKCS#1).
//!
//! Owns: taking it apart. Must not know: what is done with a key. Invariants: definite lengths in their shortest form, no
//! byte left over; what is anything else is `None`, never a panic.

/// What an object identifier in a key says, with its parameters.
pub(super) type Identifier = &'static [u8];

/// `rsaEncryption`, with NULL as its parameters.
pub(super) const RSA: Identifier = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
/// `id-ecPublicKey` on `prime256v1`.
pub(super) const P256: Identifier =
    &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// `id-Ed25519`.
pub(super) const ED25519: Identifier = &[6, 3, 0x2b, 0x65, 0x70];

const INTEGER: u8 = 2;
const BIT_STRING: u8 = 3;
const SEQUENCE: u8 = 0x30;

/// With octet strings and what is marked by a number: what stands at the top of a key or a certificate.
const OF_KEYS: [u8; 6] = [INTEGER, BIT_STRING, 4, SEQUENCE, 0xa0, 0xa1];

/// A public key of any algorithm.
pub(super) struct PublicKey<'a> {
    /// The identifier and its parameters, as they stand there.
    pub(super) algorithm: &'a [u8],
    pub(super) bits: &'a [u8],
}

/// A `SubjectPublicKeyInfo`.
pub(super) fn public_key(der: &[u8]) -> Option<PublicKey<'_>> {
    let whole = only(der, SEQUENCE)?;
    let (algorithm, rest) = next(whole, SEQUENCE)?;
    // The first byte of a bit string says how many bits of the last are not meant.
    let bits = only(rest, BIT_STRING)?.strip_prefix(&[0])?;
    Some(PublicKey { algorithm, bits })
}

/// An `RSAPublicKey`: modulus and exponent.
pub(super) fn rsa_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (n, rest) = next(only(der, SEQUENCE)?, INTEGER)?;
    Some((n, only(rest, INTEGER)?))
}

/// Whether the bytes are a sequence of two or more values of the kinds that keys and certificates are made of.
pub(super) fn is_structure(der: &[u8]) -> bool {
    let Some(mut rest) = only(der, SEQUENCE) else { return false };
    let mut values = 0;
    while let Some(&tag) = rest.first().filter(|tag| OF_KEYS.contains(tag)) {
        let Some((_, behind)) = next(rest, tag) else { return false };
        (rest, values) = (behind, values + 1);
    }
    rest.is_empty() && values >= 2
}

/// What the one value of this type holds that the bytes are.
fn only(der: &[u8], tag: u8) -> Option<&[u8]> {
    next(der, tag).filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value)
}

/// What a value of this type holds, and what follows it.
fn next(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.strip_prefix(&[tag])?.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            (usize::from(length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    let shortest = match length {
        0..=0x7f => 0,
        0x80..=0xff => 0x81,
        _ => 0x82,
    };
    if first > 0x7f && first != shortest {
        return None;
    }
    rest.split_at_checked(length)
}
