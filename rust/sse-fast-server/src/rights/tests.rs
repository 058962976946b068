//! Tokens and tickets: what lets in, and each way of not doing so.

use std::sync::Arc;

use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::token::{Demands, Grants, Invalid, Right, Unverified, encode};
use super::{Algorithm, Key, Lapsed, Rights, RightsConfig, Tickets};
use crate::admitted::Admitted;

const SECRET: &[u8] = b"a secret of 32 bytes or a few more";
const NOW: f64 = 1000.0;

fn secret() -> Key {
    Key::new(Algorithm::Hs256, SECRET, None).expect("a key")
}

fn part(value: &Value) -> String {
    encode(value.to_string())
}

/// A token signed with the secret, whatever its head says.
fn token(head: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", part(head), part(claims));
    let code = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", encode(code))
}

fn hs256(claims: &Value) -> String {
    token(&json!({"alg": "HS256", "typ": "JWT"}), claims)
}

fn verified(token: &str, keys: &[&Key], demands: &Demands, names: &[&str]) -> Result<Grants, Invalid> {
    Unverified::read(token)?.verify(keys, demands, Right::Subscribe, names, NOW)
}

fn of(claims: &Value, names: &[&str]) -> Result<Grants, Invalid> {
    verified(&hs256(claims), &[&secret()], &Demands::default(), names)
}

#[test]
fn a_token_grants_what_its_claim_names_until_it_expires() {
    let claims = json!({"exp": 1001, "iat": 990.5, "sub": "ann", "sse": {"subscribe": ["runs/42", "users/7/*"]}});
    let grants = of(&claims, &["runs/42", "users/7/inbox"]).expect("valid");
    let wanted = Grants { reader: Some("ann".into()), expires: 1001.0, issued: Some(990.5), suffices: true };
    assert_eq!(grants, wanted);
    for names in [&["runs/43"][..], &["runs/42", "users/8/inbox"], &["users/7"], &["RUNS/42"]] {
        assert!(!of(&claims, names).expect("valid").suffices, "{names:?}");
    }
    for claims in [
        json!({"exp": 1001}),
        json!({"exp": 1001, "sse": {}}),
        json!({"exp": 1001, "sse": {"publish": ["**"]}}),
        json!({"exp": 1001, "sse": {"subscribe": ["run*", "**/42"]}}),
        json!({"exp": 1001, "subscribe": ["**"]}),
    ] {
        assert!(!of(&claims, &["runs/42"]).expect("valid").suffices, "{claims}");
    }
}

#[test]
fn claims_that_are_not_as_they_must_be_are_refused() {
    let full = json!({"subscribe": ["**"]});
    for (claims, why) in [
        (json!({"sse": full}), Invalid::NoExpiry),
        (json!({"sse": full, "exp": null}), Invalid::NoExpiry),
        (json!({"sse": full, "exp": "1001"}), Invalid::Claims),
        (json!({"sse": full, "exp": 1000}), Invalid::Expired),
        (json!({"sse": full, "exp": 0}), Invalid::Expired),
        (json!({"sse": full, "exp": -1e300}), Invalid::Expired),
        (json!({"sse": full, "exp": 1001, "nbf": 1000.5}), Invalid::NotYet),
        (json!({"sse": full, "exp": 1001, "sub": 7}), Invalid::Claims),
        (json!({"sse": full, "exp": 1001, "sub": ""}), Invalid::Claims),
        (json!({"sse": ["**"], "exp": 1001}), Invalid::Claims),
        (json!({"sse": {"subscribe": "**"}, "exp": 1001}), Invalid::Claims),
        (json!({"sse": {"subscribe": [1]}, "exp": 1001}), Invalid::Claims),
        (json!([]), Invalid::Claims),
    ] {
        assert_eq!(of(&claims, &["s"]).err(), Some(why), "{claims}");
    }
    let twice = r#"{"exp":1,"exp":1001,"sse":{"subscribe":["**"]}}"#;
    let signed = format!("{}.{}", part(&json!({"alg": "HS256"})), encode(twice));
    let code = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    let token = format!("{signed}.{}", encode(code));
    assert_eq!(verified(&token, &[&secret()], &Demands::default(), &["s"]).err(), Some(Invalid::Claims));
}

#[test]
fn issuer_audience_and_leeway_are_as_demanded() {
    let demands = Demands { issuer: Some("us".into()), audience: Some("me".into()), leeway: 5.0 };
    let ask = |claims: &Value| verified(&hs256(claims), &[&secret()], &demands, &[]).map(|grants| grants.expires);
    assert_eq!(ask(&json!({"exp": 996, "nbf": 1004, "iss": "us", "aud": "me"})), Ok(1001.0));
    assert_eq!(ask(&json!({"exp": 1001, "iss": "us", "aud": ["you", "me"]})), Ok(1006.0));
    for (claims, why) in [
        (json!({"exp": 995, "iss": "us", "aud": "me"}), Invalid::Expired),
        (json!({"exp": 1001, "nbf": 1006, "iss": "us", "aud": "me"}), Invalid::NotYet),
        (json!({"exp": 1001, "aud": "me"}), Invalid::Issuer),
        (json!({"exp": 1001, "iss": "US", "aud": "me"}), Invalid::Issuer),
        (json!({"exp": 1001, "iss": "us"}), Invalid::Audience),
        (json!({"exp": 1001, "iss": "us", "aud": ["you"]}), Invalid::Audience),
        (json!({"exp": 1001, "iss": "us", "aud": {"me": 1}}), Invalid::Claims),
    ] {
        assert_eq!(ask(&claims).err(), Some(why), "{claims}");
    }
}

#[test]
fn what_has_not_the_form_or_the_signature_of_a_token_is_refused() {
    let claims = json!({"exp": 1001, "sse": {"subscribe": ["**"]}});
    let good = hs256(&claims);
    let (signed, code) = good.rsplit_once('.').expect("parts");
    let (head, body) = signed.split_once('.').expect("parts");
    let forms = [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        signed.into(),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{code}"),
        format!("{good}="),
        format!("{good} "),
        format!("{head}=.{body}.{code}"),
        format!("{}.{body}.{code}", encode("[]")),
        format!("{}.{body}.{code}", encode(r#"{"alg":"HS256","alg":"HS256"}"#)),
        format!("{}.{body}.{code}", encode(r#"{"alg":1}"#)),
        format!("{}.{body}.{code}", encode(r#"{"alg":"HS256","kid":7}"#)),
        format!("{}.{body}.{code}", encode(b"\xff")),
        format!("{}.{body}.{code}", encode("{}")),
        "é.é.é".into(),
    ];
    for token in forms {
        assert_eq!(verified(&token, &[&secret()], &Demands::default(), &[]).err(), Some(Invalid::Form), "{token:?}");
    }
    for other in ["none", "None", "hs256", "HS384", "HS512", "PS256", "ES384", "", "RS1"] {
        let token = token(&json!({"alg": other}), &claims);
        assert_eq!(Unverified::read(&token).err(), Some(Invalid::Algorithm), "{other}");
        let unsigned = format!("{}.{body}.", part(&json!({"alg": other})));
        assert_eq!(Unverified::read(&unsigned).err(), Some(Invalid::Algorithm), "{other}");
    }
    for crit in [json!(["exp"]), json!([]), json!(["b64"]), Value::Null] {
        let token = token(&json!({"alg": "HS256", "crit": crit, "b64": false}), &claims);
        assert_eq!(Unverified::read(&token).err(), Some(Invalid::Critical), "{crit}");
    }
    let changed = format!("{head}.{}.{code}", part(&json!({"exp": 1002, "sse": {"subscribe": ["**"]}})));
    for token in [format!("{signed}."), format!("{signed}.{}", encode([0; 32])), changed] {
        assert_eq!(verified(&token, &[&secret()], &Demands::default(), &[]).err(), Some(Invalid::Signature), "{token}");
    }
    let other = Key::new(Algorithm::Hs256, &[7; 32], None).expect("a key");
    assert_eq!(verified(&good, &[&other], &Demands::default(), &[]).err(), Some(Invalid::Signature));
    assert!(verified(&good, &[&other, &secret()], &Demands::default(), &[]).is_ok(), "the second key is tried, too");
}

/// A token whose signature is made by `sign`.
fn signed_by(algorithm: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let claims = json!({"exp": 1001, "sse": {"subscribe": ["**"]}});
    let signed = format!("{}.{}", part(&json!({"alg": algorithm})), part(&claims));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", encode(signature))
}

#[test]
fn elliptic_keys_verify_what_they_signed_from_pem_and_jwk_alike() {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).expect("a pair");
    let point = pair.public_key().as_ref();
    let token = signed_by("ES256", |signed| pair.sign(&random, signed).expect("signed").as_ref().to_vec());
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]), "kid": "e"});
    let prefix =
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    let pem = pem("PUBLIC KEY", &[&prefix[..], point].concat());
    for given in [jwk.to_string(), pem.clone(), pem.replace('\n', "\r\n")] {
        let key = Key::new(Algorithm::Es256, given.as_bytes(), None).expect("a key");
        assert!(verified(&token, &[&key], &Demands::default(), &["s"]).is_ok_and(|grants| grants.suffices));
        for wrong in [Algorithm::Rs256, Algorithm::EdDsa] {
            assert!(Key::new(wrong, given.as_bytes(), None).is_err(), "{wrong:?}");
        }
        let changed = token.replace("eyJ", "eyK");
        assert!(verified(&changed, &[&key], &Demands::default(), &["s"]).is_err());
    }
    assert!(Key::new(Algorithm::Hs256, pem.as_bytes(), None).is_err(), "a public key is no secret");
}

#[test]
fn an_ed25519_key_verifies_what_it_signed() {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a pair");
    let public = pair.public_key().as_ref();
    let token = signed_by("EdDSA", |signed| pair.sign(signed).as_ref().to_vec());
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(public)}).to_string();
    let pem = pem("PUBLIC KEY", &[b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", public].concat());
    for given in [jwk, pem] {
        let key = Key::new(Algorithm::EdDsa, given.as_bytes(), None).expect("a key");
        assert!(verified(&token, &[&key], &Demands::default(), &["s"]).is_ok_and(|grants| grants.suffices));
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[test]
fn what_is_no_key_is_refused_and_says_why_but_not_what() {
    let short = b"thirty-one bytes of no account.";
    let private = pem("PRIVATE KEY", b"secret");
    let symmetric = r#"{"kty":"oct","k":"AAAA"}"#;
    let public = json!({"kty": "RSA", "n": encode([0xc3; 256]), "e": "AQAB", "kid": "k"}).to_string();
    for (algorithm, given, why) in [
        (Algorithm::Hs256, &short[..], "32 bytes or more: it has 31"),
        (Algorithm::Hs256, b"", "32 bytes or more: it has 0"),
        (Algorithm::Hs256, private.as_bytes(), "a PEM is no secret"),
        (Algorithm::Hs256, public.as_bytes(), "JSON is no secret"),
        (Algorithm::Hs256, symmetric.as_bytes(), "JSON is no secret"),
        (Algorithm::Rs256, private.as_bytes(), "a private key"),
        (Algorithm::Es256, pem("CERTIFICATE", b"x").as_bytes(), "a certificate"),
        (Algorithm::Es256, pem("PUBLIC KEY", b"x").as_bytes(), "not one that ES256"),
        (Algorithm::Es256, &pem("PUBLIC KEY", b"x").repeat(2).into_bytes(), "more than one block"),
        (Algorithm::EdDsa, b"-----BEGIN PUBLIC KEY-----\nAA", "no end"),
        (Algorithm::EdDsa, b"-----BEGIN PUBLIC KEY-----\n?\n-----END PUBLIC KEY-----", "not base64"),
        (Algorithm::Rs256, short, "neither a PEM nor a JWK"),
        (Algorithm::Rs256, b"\xff", "not text"),
        (Algorithm::Rs256, b"{", "not a JWK"),
        (Algorithm::Rs256, symmetric.as_bytes(), "not one that RS256"),
        (Algorithm::Rs256, br#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#, "not one that RS256"),
    ] {
        let error = Key::new(algorithm, given, None).expect_err("refused").to_string();
        assert!(error.contains(why) && !error.contains("no account"), "{error}");
    }
}

#[test]
fn a_jwk_for_hs256_is_a_symmetric_one_and_its_secret_is_what_it_holds() {
    let claims = json!({"exp": 1001, "sse": {"subscribe": ["s"]}});
    for jwk in [
        json!({"kty": "oct", "k": encode(SECRET), "kid": "one"}),
        json!({"kty": "oct", "k": encode(SECRET) + "=", "kid": "one", "alg": "HS256", "use": "sig"}),
        json!({"kty": "oct", "k": encode(SECRET), "kid": "one", "key_ops": ["sign", "verify"]}),
    ] {
        let key = Key::from_jwk(Algorithm::Hs256, &jwk.to_string(), None).expect("a key");
        assert_eq!((key.id(), key.secret()), (Some("one"), Some(SECRET)));
        assert!(verified(&hs256(&claims), &[&key], &Demands::default(), &["s"]).is_ok_and(|grants| grants.suffices));
        let own = Key::from_jwk(Algorithm::Hs256, &jwk.to_string(), Some("own")).expect("a key");
        assert_eq!(own.id(), Some("own"));
    }
    for (jwk, why) in [
        (json!({"kty": "RSA", "n": encode([0xc3; 256]), "e": "AQAB", "kid": "k"}), "has the kty \"oct\""),
        (json!({"kty": "EC", "crv": "P-256", "k": encode(SECRET)}), "has the kty \"oct\""),
        (json!({"kty": "oct", "k": encode(SECRET), "alg": "HS512"}), "has the kty \"oct\""),
        (json!({"kty": "oct", "k": encode(SECRET), "use": "enc"}), "has the kty \"oct\""),
        (json!({"kty": "oct", "k": "not base64!"}), "has the kty \"oct\""),
        (json!({"kty": "oct"}), "has the kty \"oct\""),
        (json!({"kty": "oct", "k": encode([7; 31])}), "it has 31"),
        (json!({"kty": "oct", "k": encode(pem("PUBLIC KEY", b"x"))}), "a PEM is no secret"),
        (json!({"k": encode(SECRET)}), "not a JWK"),
        (json!([]), "not a JWK"),
    ] {
        let error = Key::from_jwk(Algorithm::Hs256, &jwk.to_string(), None).expect_err("refused").to_string();
        assert!(error.contains(why), "{jwk}: {error}");
    }
}

#[test]
fn no_bytes_make_the_reader_of_keys_panic() {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
    let der = document.as_ref();
    for length in 0..der.len() {
        for byte in [0, 0x7f, 0x80, 0x81, 0x82, 0x84, 0xff] {
            let mut changed = der[..length].to_vec();
            changed.push(byte);
            let _ =
                (super::der::public_key(&changed), super::der::rsa_numbers(&changed), super::check_secret(&changed));
        }
    }
}

#[test]
fn a_ticket_lets_in_until_it_expires_and_is_no_token() {
    let tickets = Tickets::new(Some(SECRET), None, None).expect("tickets");
    let patterns = ["runs/42".to_owned(), "users/7/**".to_owned()];
    let ticket = tickets.make(&patterns, Some("ann"), 990.0, 1001.0).expect("a ticket");
    let grants = tickets.read(&ticket, &["users/7/a/b"], NOW).expect("valid");
    assert_eq!((grants.reader.as_deref(), grants.suffices, grants.issued), (Some("ann"), true, Some(990.0)));
    assert!(!tickets.read(&ticket, &["runs/43"], NOW).expect("valid").suffices);
    assert_eq!(tickets.read(&ticket, &[], 1001.0).err(), Some(Invalid::Expired));
    assert_eq!(Unverified::read(&ticket).err(), Some(Invalid::Form), "it is no token");
    assert_eq!(tickets.read(&hs256(&json!({"exp": 1001})), &[], NOW).err(), Some(Invalid::Form), "no token is one");
    let other = Tickets::new(Some(&[7; 32]), None, None).expect("tickets");
    assert_eq!(other.read(&ticket, &[], NOW).err(), Some(Invalid::Signature));
    let (signed, code) = ticket.rsplit_once('.').expect("parts");
    for wrong in
        [String::new(), "sse1.".into(), "sse1..".into(), signed.into(), format!("{signed}."), format!("x{ticket}")]
    {
        assert!(tickets.read(&wrong, &[], NOW).is_err(), "{wrong}");
    }
    let more = encode(r#"{"s":["**"],"i":990.0,"e":9999.0}"#);
    assert_eq!(tickets.read(&format!("sse1.{more}.{code}"), &[], NOW).err(), Some(Invalid::Signature));
    assert!(tickets.make(&["run*".to_owned()], None, 0.0, 1.0).is_err());
    // The derived key is not the key: a code made with that is none.
    let forged = format!("sse1.{more}");
    let forged =
        format!("{forged}.{}", encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), forged.as_bytes())));
    assert_eq!(tickets.read(&forged, &[], NOW).err(), Some(Invalid::Signature));
}

#[test]
fn tickets_of_one_key_serve_every_process_and_random_ones_their_own() {
    let [one, other] = [(); 2].map(|()| Tickets::new(None, Some(SECRET), None).expect("tickets"));
    let patterns: Arc<[String]> = Arc::from(["**".to_owned()]);
    let ticket = one.make(&patterns, None, 990.0, 1001.0).expect("a ticket");
    assert!(one.are_in_use() && other.are_in_use() && other.read(&ticket, &["s"], NOW).is_ok());
    let [one, other] = [(); 2].map(|()| Tickets::new(None, None, None).expect("tickets"));
    assert!(!one.are_in_use(), "nobody can have one");
    let ticket = one.make(&patterns, None, 990.0, 1001.0).expect("a ticket");
    assert!(one.are_in_use() && one.read(&ticket, &["s"], NOW).is_ok() && other.read(&ticket, &["s"], NOW).is_err());
}

#[test]
fn who_was_let_in_is_so_until_its_right_ends_or_it_is_disconnected() {
    let rights = Rights::new(&RightsConfig::default(), false).expect("rights");
    let of = |reader: Option<&str>, expires, since| Admitted { reader: reader.map(Arc::from), expires, since };
    for (admitted, now, before, after) in [
        (of(None, None, 0), 99, Ok(()), Ok(())),
        (of(Some("ann"), None, 10), 10, Ok(()), Err(Lapsed::Disconnected)),
        (of(Some("ann"), None, 20), 30, Ok(()), Err(Lapsed::Disconnected)),
        (of(Some("ann"), None, 21), 30, Ok(()), Ok(())),
        (of(Some("bob"), None, 10), 30, Ok(()), Ok(())),
        (of(Some("bob"), Some(30), 10), 29, Ok(()), Ok(())),
        (of(Some("bob"), Some(30), 10), 30, Err(Lapsed::Expired), Err(Lapsed::Expired)),
        (of(None, Some(30), 10), 31, Err(Lapsed::Expired), Err(Lapsed::Expired)),
        (of(Some("ann"), Some(30), 10), 29, Ok(()), Err(Lapsed::Disconnected)),
    ] {
        assert_eq!(rights.still_admits(&admitted, now), before, "{admitted:?} at {now}");
        let cut = Rights::new(&RightsConfig::default(), false).expect("rights");
        cut.disconnected.add(&"ann".into(), 0, 20);
        assert_eq!(cut.still_admits(&admitted, now), after, "{admitted:?} at {now}, disconnected at 20");
    }
}
