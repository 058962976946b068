//! Keys that tokens are verified with, from what an application or a key set on the web gives.
//!
//! Owns: algorithms, the forms of keys, the verification. Must not know: claims, requests.
//! Invariants: a key has one algorithm, chosen where it is given, never by a token. A secret is what `secret` lets pass: a
//! public key that were taken for one would let everybody sign who has it. No key shows up in any text.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;

use super::der;
use super::secret::{KeyError, check_secret, wrong};

/// RSA moduli that are verified, in bytes: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// What a signature is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: who verifies can sign, too.
    Hs256,
    /// RSA, PKCS#1 v1.5, with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    const ALL: [Self; 4] = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];

    /// Whether keys of it may be published; of the others a set has none that is taken.
    pub(super) fn is_public(self) -> bool {
        self != Self::Hs256
    }

    /// Its name in a token's head.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this name, exactly as it stands in tokens.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// See the module.
#[derive(Clone)]
pub struct Key {
    id: Option<Box<str>>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    /// For verifying; and as it was given, for what is derived from it.
    Secret(hmac::Key, Box<[u8]>),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// An uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// One key of a set (RFC 7517), as far as it is needed.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl Key {
    /// A key of this algorithm: a secret's bytes, or a public key in PEM or as a JWK. `id` is what selects it.
    pub fn new(algorithm: Algorithm, given: &[u8], id: Option<&str>) -> Result<Self, KeyError> {
        if algorithm == Algorithm::Hs256 {
            return Ok(Self { id: id.map(Box::from), material: Material::of_secret(given)? });
        }
        let text = std::str::from_utf8(given).map_err(|_| wrong("it is not text"))?.trim();
        if text.starts_with('{') {
            return Self::from_jwk(algorithm, text, id);
        }
        Ok(Self { id: id.map(Box::from), material: Material::of_pem(algorithm, text)? })
    }

    /// A key of this algorithm that is a JWK: a public key, or for HS256 one of `kty` `oct`, whose `k` is the secret. Without
    /// `id` its `kid` selects it.
    pub fn from_jwk(algorithm: Algorithm, json: &str, id: Option<&str>) -> Result<Self, KeyError> {
        let jwk: Jwk = serde_json::from_str(json).map_err(|_| wrong("it is not a JWK"))?;
        let material = match (algorithm, jwk.secret()) {
            (Algorithm::Hs256, Some(secret)) => Material::of_secret(&secret)?,
            (Algorithm::Hs256, None) => {
                let why =
                    "a JWK for HS256 has the kty \"oct\" and its secret as k; a public key has an algorithm of its own";
                return Err(wrong(why));
            }
            (_, _) => jwk.material(algorithm).ok_or_else(|| {
                KeyError::new(format!("the JWK is not one that {} tokens are verified with", algorithm.name()))
            })?,
        };
        Ok(Self { id: id.map(Box::from).or(jwk.kid.map(Box::from)), material })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Secret(..) => Algorithm::Hs256,
            Material::Rsa(_) => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// What another key may be derived from; `None` where everybody may know it.
    pub(super) fn secret(&self) -> Option<&[u8]> {
        match &self.material {
            Material::Secret(_, secret) => Some(secret),
            Material::Rsa(_) | Material::P256(_) | Material::Ed25519(_) => None,
        }
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether that is the key's signature of these bytes.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key, _) => hmac::verify(key, signed, signature).is_ok(),
            Material::Rsa(key) => key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok(),
            Material::P256(point) => {
                let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
                key.verify(signed, signature).is_ok()
            }
            Material::Ed25519(key) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(signed, signature).is_ok()
            }
        }
    }
}

impl Jwk {
    /// Whether it may verify tokens of this algorithm, as far as it says what it is for.
    fn is_for(&self, algorithm: Algorithm) -> bool {
        let is_for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|one| one == "verify"));
        let is_named = self
            .alg
            .as_deref()
            .is_none_or(|named| named == algorithm.name() || (algorithm == Algorithm::EdDsa && named == "Ed25519"));
        is_for_signatures && is_named
    }

    /// The secret, where it is a symmetric key.
    fn secret(&self) -> Option<Vec<u8>> {
        let secret = self.k.as_ref().filter(|_| self.kty == "oct" && self.is_for(Algorithm::Hs256))?;
        URL_SAFE_NO_PAD.decode(secret.trim_end_matches('=')).ok()
    }

    fn material(&self, algorithm: Algorithm) -> Option<Material> {
        let bytes = |part: &Option<String>| URL_SAFE_NO_PAD.decode(part.as_deref()?.trim_end_matches('=')).ok();
        if !self.is_for(algorithm) {
            return None;
        }
        match (algorithm, self.kty.as_str(), self.crv.as_deref()) {
            (Algorithm::Rs256, "RSA", _) => rsa(&bytes(&self.n)?, &bytes(&self.e)?),
            (Algorithm::Es256, "EC", Some("P-256")) => {
                let (x, y) = (bytes(&self.x)?, bytes(&self.y)?);
                (x.len() == 32 && y.len() == 32).then(|| Material::P256([&[4], &x[..], &y[..]].concat()))
            }
            (Algorithm::EdDsa, "OKP", Some("Ed25519")) => {
                bytes(&self.x).filter(|key| key.len() == 32).map(Material::Ed25519)
            }
            _ => None,
        }
    }

    /// The key, where it is one that tokens may be verified with; symmetric ones are ignored: who reads the set has them.
    fn into_key(self) -> Option<Key> {
        let mut public = Algorithm::ALL.into_iter().filter(|algorithm| algorithm.is_public());
        let material = public.find_map(|algorithm| self.material(algorithm))?;
        Some(Key { id: self.kid.map(Box::from), material })
    }
}

impl Material {
    fn of_secret(given: &[u8]) -> Result<Self, KeyError> {
        check_secret(given)?;
        Ok(Self::Secret(hmac::Key::new(hmac::HMAC_SHA256, given), given.into()))
    }

    fn of_pem(algorithm: Algorithm, text: &str) -> Result<Self, KeyError> {
        let (label, der) = pem(text)?;
        let found = match label {
            "PUBLIC KEY" => der::public_key(&der).and_then(|key| match (key.algorithm, key.bits) {
                (der::RSA, bits) => der::rsa_numbers(bits).and_then(|(n, e)| rsa(n, e)),
                (der::P256, [4, rest @ ..]) if rest.len() == 64 => Some(Self::P256(key.bits.to_vec())),
                (der::ED25519, bits) if bits.len() == 32 => Some(Self::Ed25519(bits.to_vec())),
                _ => None,
            }),
            "RSA PUBLIC KEY" => der::rsa_numbers(&der).and_then(|(n, e)| rsa(n, e)),
            "CERTIFICATE" => {
                return Err(wrong("it is a certificate: give its public key (openssl x509 -pubkey -noout)"));
            }
            other if other.ends_with("PRIVATE KEY") => {
                return Err(wrong("it is a private key, which a server that only verifies must not have"));
            }
            _ => return Err(wrong("its PEM is not that of a public key")),
        };
        let fits = |material: &Self| {
            matches!(
                (algorithm, material),
                (Algorithm::Rs256, Self::Rsa(_))
                    | (Algorithm::Es256, Self::P256(_))
                    | (Algorithm::EdDsa, Self::Ed25519(_))
            )
        };
        let what =
            || KeyError::new(format!("the public key is not one that {} tokens are verified with", algorithm.name()));
        found.filter(fits).ok_or_else(what)
    }
}

/// The keys of a set from the web, those left out that cannot be used; `None` where it is no set.
pub(super) fn key_set(json: &[u8]) -> Option<Vec<Key>> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(json).ok()?;
    let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    Some(keys.filter_map(Jwk::into_key).collect())
}

fn rsa(n: &[u8], e: &[u8]) -> Option<Material> {
    let n = &n[n.iter().take_while(|&&byte| byte == 0).count()..];
    let e = &e[e.iter().take_while(|&&byte| byte == 0).count()..];
    let is_usable = RSA_BYTES.contains(&n.len()) && !e.is_empty() && e.len() <= 5 && e != [1] && e.last()? % 2 == 1;
    is_usable.then(|| Material::Rsa(RsaPublicKeyComponents { n: n.to_vec(), e: e.to_vec() }))
}

/// The label and the bytes of a PEM that has one block.
fn pem(text: &str) -> Result<(&str, Vec<u8>), KeyError> {
    let neither = || wrong("it is neither a PEM nor a JWK");
    let (label, rest) =
        text.strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----")).ok_or_else(neither)?;
    let (body, end) = rest.split_once("-----END ").ok_or_else(|| wrong("its PEM has no end"))?;
    if end.trim_end() != format!("{label}-----") {
        return Err(wrong("its PEM has more than one block, or an end that does not fit"));
    }
    let body: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(body).map(|der| (label, der)).map_err(|_| wrong("its PEM is not base64"))
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({}, {:?})", self.algorithm().name(), self.id)
    }
}
