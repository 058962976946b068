//! How long deciding by a token takes, for each algorithm: what one core can let in.
//!
//! The tokens expire in 2100, and are as long as those of an identity provider. For a person who compares two versions on one
//! quiet machine (`make bench`). Nothing depends on the times.
#![allow(missing_docs, clippy::expect_used, reason = "what the macros make; a benchmark that cannot go on must stop")]

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use sse_fast_server::{Algorithm, Key, Keys, TokenRules};

const SECRET: &[u8] = b"a secret of the tests, long enough to be one";
const NAMES: &[&str] = &["users/7/inbox"];

/// A key of each algorithm, and a token that it verifies.
const SIGNED: [(Algorithm, &[u8], &str); 3] = [
    (Algorithm::Hs256, SECRET, HS256),
    (Algorithm::Rs256, RSA.as_bytes(), RS256),
    (Algorithm::Es256, P256.as_bytes(), ES256),
];
const HS256: &str = concat!(
    "eyJhbGciOiAiSFMyNTYiLCAidHlwIjogIkpXVCJ9.eyJpYXQiOiAxNzk1OTAwMDAwLCAiZXhwIjogNDEwMjQ0NDgwMCwgInN",
    "1YiI6ICJhbm4iLCAiaXNzIjogImh0dHBzOi8vaWQuZXhhbXBsZSIsICJhdWQiOiAiZXZlbnRzIiwgInNzZSI6IHsic3Vic2N",
    "yaWJlIjogWyJydW5zLzQyIiwgInVzZXJzLzcvKiIsICJ0ZWFtcy9ibHVlLyoqIl19fQ.J0dsqSdBgXKy4Rlki_DT_VHlKeN2",
    "FTRJnMJMDSnFO4Y"
);
const RS256: &str = concat!(
    "eyJhbGciOiAiUlMyNTYiLCAidHlwIjogIkpXVCJ9.eyJpYXQiOiAxNzk1OTAwMDAwLCAiZXhwIjogNDEwMjQ0NDgwMCwgInN",
    "1YiI6ICJhbm4iLCAiaXNzIjogImh0dHBzOi8vaWQuZXhhbXBsZSIsICJhdWQiOiAiZXZlbnRzIiwgInNzZSI6IHsic3Vic2N",
    "yaWJlIjogWyJydW5zLzQyIiwgInVzZXJzLzcvKiIsICJ0ZWFtcy9ibHVlLyoqIl19fQ.qrkVs6qSXCan_niwiBTDBkfDgQXx",
    "tQaQA67su8m3xP9q3cusZdvLi73WQ30GXljW8g8Fow-CccxPOpg-CIkxf5YYPP8nnbWmSTOQG2iKM5u0UcpMNdoBMuquDUHQ",
    "h-jioOIjEhQImndWuAy0JLy80_Xc9gRcrjF8tMQdobsmFfdqFE9lpfmnSIpWxPMBrpWmZIxE7GSr7IsFkYfrP1bpjix8pQsz",
    "sDZ7Uzj5zCNf9dFxH_Iof_yYlyNcy7z9LZ0S7f28VRRrKmghW3OnXdU-4BZvWW0ZSTydwm8P81P4UGDzJvueFyW4ML_WkIpC",
    "EpX3n7rvySi2AUPRos8IqwPyoA"
);
const ES256: &str = concat!(
    "eyJhbGciOiAiRVMyNTYiLCAidHlwIjogIkpXVCJ9.eyJpYXQiOiAxNzk1OTAwMDAwLCAiZXhwIjogNDEwMjQ0NDgwMCwgInN",
    "1YiI6ICJhbm4iLCAiaXNzIjogImh0dHBzOi8vaWQuZXhhbXBsZSIsICJhdWQiOiAiZXZlbnRzIiwgInNzZSI6IHsic3Vic2N",
    "yaWJlIjogWyJydW5zLzQyIiwgInVzZXJzLzcvKiIsICJ0ZWFtcy9ibHVlLyoqIl19fQ.8gG0Dnaz_oQWYd2VUODBCNI2GXEs",
    "xGVv9DLSJWQq3jfN1GTZW64ypaPr6ibn5j3UrtC_ayQMGfFlRayfDHTaaw"
);
const RSA: &str = concat!(
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAv8ASmKpTmOG9Mo1ImXZC\n8A",
    "lrAKUiGbLCv6rmlVu3w4ni6DbQcpqJU0vx2j80Faa3C9WHMY0Wh9xlGhg73sZ1\nupwxdGSiTNip8L7O8tZQgiJIGldW2L2a",
    "DmhStDeqRl7BEiLlzI6OSjNKjHsxnz3+\nMCSF0l8nhdOVHlg/g464c3e/59nHaYEGZyCtb1jadpjKN7fy9bOSy88DwhFypS",
    "V/\nPh1bqk1JnUOeUsEJjrA+V0OdaBMs2G/HyY6kvQ97lv6JdfZdfhktLux6yC7csXTn\nlv8SzUysPXkDhMmRRRz6xA0sQk",
    "WKMcmRruEIjRAs5wiJhyMsAUZnh7Ix7KbNt37H\nHQIDAQAB\n-----END PUBLIC KEY-----\n"
);
const P256: &str = concat!(
    "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAERxw+dYxJBChbun5TEY7Q9SSt6wdX\n0l",
    "vS+Oew1236cUzdUg96yoqLkXrMN/Ud6PDJu+OthYOC5wLcJaEtCfeoWA==\n-----END PUBLIC KEY-----\n"
);

fn rules(algorithm: Algorithm, key: &[u8]) -> TokenRules {
    let keys = Keys::Given(Arc::from([Key::new(algorithm, key, None).expect("a key")]));
    let (issuer, audience) = (Some("https://id.example".to_owned()), Some("events".to_owned()));
    TokenRules { keys, issuer, audience, leeway: 0.0 }
}

fn decide(criterion: &mut Criterion) {
    for (algorithm, key, token) in SIGNED {
        let rules = rules(algorithm, key);
        assert_eq!(rules.suffices(token, NAMES), Ok(true));
        assert_eq!(rules.suffices(token, &["users/8/inbox"]), Ok(false));
        let name = format!("decide by a token of {}", algorithm.name());
        criterion.bench_function(&name, |bencher| bencher.iter(|| rules.suffices(token, NAMES)));
    }
}

criterion_group!(benches, decide);
criterion_main!(benches);
