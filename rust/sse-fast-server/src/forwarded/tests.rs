//! Who a request is from: what proxies in use write, and what clients write to look like somebody else.

use super::*;

const PROXIES: [&str; 3] = ["127.0.0.1", "10.0.0.0/8", "2001:db8:ffff::/48"];

fn proxies(family: Family) -> Proxies {
    Proxies::new(&PROXIES.map(|network| network.parse().expect("a network")), family)
}

fn headers(given: &[(&str, &str)]) -> HeaderMap {
    given
        .iter()
        .map(|(name, value)| {
            (name.parse::<hyper::header::HeaderName>().expect("a name"), value.parse().expect("a value"))
        })
        .collect()
}

fn by_x(given: &[(&str, &str)]) -> Requester {
    proxies(Family::X).requester("10.0.0.9:4000".parse().expect("an address"), &headers(given))
}

fn by_rfc7239(values: &[&str]) -> Requester {
    let given: Vec<_> = values.iter().map(|value| ("forwarded", *value)).collect();
    proxies(Family::Rfc7239).requester("10.0.0.9:4000".parse().expect("an address"), &headers(&given))
}

fn shown(origin: &Requester) -> (String, Option<&str>, Option<&str>) {
    (origin.client.to_string(), origin.host.as_deref(), origin.scheme.as_deref())
}

#[test]
fn nothing_is_read_of_who_is_not_trusted() {
    let given = headers(&[
        ("x-forwarded-for", "9.9.9.9"),
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=9.9.9.9;host=evil.test"),
    ]);
    for family in [Family::X, Family::Rfc7239] {
        let origin = proxies(family).requester("11.0.0.1:7".parse().expect("an address"), &given);
        assert_eq!((shown(&origin), origin.by_proxy), (("11.0.0.1:7".into(), None, None), false));
    }
    // By default nobody is.
    let origin = Proxies::default().requester("127.0.0.1:7".parse().expect("an address"), &given);
    assert_eq!(shown(&origin), ("127.0.0.1:7".into(), None, None));
}

#[test]
fn one_family_is_read_and_the_other_never() {
    let given = headers(&[("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=2.2.2.2")]);
    for (family, client) in [(Family::X, "1.1.1.1:0"), (Family::Rfc7239, "2.2.2.2:0")] {
        let origin = proxies(family).requester("127.0.0.1:7".parse().expect("an address"), &given);
        assert_eq!(origin.client.to_string(), client, "{family:?}");
    }
}

#[test]
fn the_client_is_the_first_address_from_the_right_that_is_not_trusted() {
    let hundred = format!("6.6.6.6, 7.7.7.7, {}", vec!["10.0.0.1"; 100].join(", "));
    let spoofed = format!("{}, 7.7.7.7", vec!["10.0.0.1"; 100].join(", "));
    for (lines, client) in [
        (&["1.2.3.4"][..], "1.2.3.4:0"),
        (&["6.6.6.6, 1.2.3.4"], "1.2.3.4:0"),
        (&["6.6.6.6,1.2.3.4 , 10.0.0.1,\t10.0.0.2"], "1.2.3.4:0"),
        (&["6.6.6.6", "1.2.3.4", "10.0.0.1"], "1.2.3.4:0"),
        (&["10.1.1.1, 10.0.0.1"], "10.1.1.1:0"),
        (&["1.2.3.4:5678"], "1.2.3.4:5678"),
        (&["[2001:db8::1]:443"], "[2001:db8::1]:443"),
        (&["[2001:db8::1]"], "[2001:db8::1]:0"),
        (&["2001:db8::1"], "[2001:db8::1]:0"),
        (&["1.1.1.1, 2001:db8:ffff::7"], "1.1.1.1:0"),
        (&["::ffff:1.2.3.4"], "1.2.3.4:0"),
        (&["1.2.3.4, ::ffff:10.0.0.3"], "1.2.3.4:0"),
        (&[&hundred], "7.7.7.7:0"),
        (&[&spoofed], "7.7.7.7:0"),
        // A proxy hides it, or writes what is none: the proxy itself.
        (&["1.2.3.4, unknown"], "10.0.0.9:4000"),
        (&["1.2.3.4, _hidden, 10.0.0.1"], "10.0.0.1:0"),
        (&["1.2.3.4,"], "10.0.0.9:4000"),
        (&["1.2.3.4, , 10.0.0.1"], "10.0.0.1:0"),
        (&["", ""], "10.0.0.9:4000"),
        (&["localhost"], "10.0.0.9:4000"),
        (&["1.2.3.4:99999"], "10.0.0.9:4000"),
        (&["1.2.3.4:"], "10.0.0.9:4000"),
        (&["1.2.3.4:+1"], "10.0.0.9:4000"),
        (&["01.2.3.4"], "10.0.0.9:4000"),
        (&["1.2.3"], "10.0.0.9:4000"),
        (&["[1.2.3.4]"], "10.0.0.9:4000"),
        (&["[2001:db8::1"], "10.0.0.9:4000"),
        (&["[2001:db8::1]x"], "10.0.0.9:4000"),
        (&["[2001:db8::1]]:1"], "10.0.0.9:4000"),
        (&["fe80::1%eth0"], "10.0.0.9:4000"),
        (&["\"1.2.3.4\""], "10.0.0.9:4000"),
        (&["1.2.3.4 5.6.7.8"], "10.0.0.9:4000"),
        (&["1.2.3.4;5.6.7.8"], "10.0.0.9:4000"),
        // What a client wrote left of it is not even parsed.
        (&["\"[;=\\, 1.2.3.4"], "1.2.3.4:0"),
    ] {
        let given: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        assert_eq!(by_x(&given).client.to_string(), client, "{lines:?}");
    }
    assert_eq!(by_x(&[]).client.to_string(), "10.0.0.9:4000");
}

#[test]
fn what_is_no_text_is_no_address() {
    let mut given = HeaderMap::new();
    given.append("x-forwarded-for", "1.2.3.4".parse().expect("a value"));
    given.append("x-forwarded-for", HeaderValue::from_bytes(b"\xff\xfe").expect("a value"));
    given.append("forwarded", HeaderValue::from_bytes(b"for=\xff").expect("a value"));
    for family in [Family::X, Family::Rfc7239] {
        let origin = proxies(family).requester("10.0.0.9:4000".parse().expect("an address"), &given);
        assert_eq!(shown(&origin), ("10.0.0.9:4000".into(), None, None), "{family:?}");
    }
}

#[test]
fn host_and_scheme_are_of_the_proxy_that_saw_the_client() {
    let addresses = ("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.1");
    for (hosts, schemes, host, scheme) in [
        // Each proxy adds its own.
        ("evil.test, app.test, inner", "ftp, HTTPS, http", Some("app.test"), Some("https")),
        // The outer one sets it, the inner passes it on.
        ("app.test", "https", Some("app.test"), Some("https")),
        ("app.test,", ",", Some("app.test"), None),
        ("", "", None, None),
    ] {
        let given = [addresses, ("x-forwarded-host", hosts), ("x-forwarded-proto", schemes)];
        assert_eq!(shown(&by_x(&given)), ("1.2.3.4:0".into(), host, scheme), "{hosts:?}");
    }
    // One proxy that adds to what the client wrote.
    let given = [("x-forwarded-for", "6.6.6.6, 1.2.3.4"), ("x-forwarded-host", "evil.test, app.test")];
    assert_eq!(shown(&by_x(&given)), ("1.2.3.4:0".into(), Some("app.test"), None));
}

#[test]
fn forwarded_elements_are_read_from_the_right() {
    let hundred = format!("for=6.6.6.6, for=7.7.7.7, {}", vec!["for=10.0.0.1"; 100].join(","));
    for (values, expected) in [
        (&["for=1.2.3.4"][..], ("1.2.3.4:0", None, None)),
        (&["For=1.2.3.4;Proto=HTTPS;Host=app.test;by=10.0.0.9"], ("1.2.3.4:0", Some("app.test"), Some("https"))),
        (&["for=\"[2001:db8::1]:4711\""], ("[2001:db8::1]:4711", None, None)),
        (&["for=\"1.2.3.4:80\" ; proto=http"], ("1.2.3.4:80", None, Some("http"))),
        (&["for=1.2.3.4:80"], ("1.2.3.4:80", None, None)),
        (&["for=\"1.2.3.4:_port\""], ("1.2.3.4:0", None, None)),
        (&["for=\"\\1.2.3.\\4\""], ("1.2.3.4:0", None, None)),
        (&["for=6.6.6.6, for=1.2.3.4;host=app.test, for=10.0.0.1;host=inner"], ("1.2.3.4:0", Some("app.test"), None)),
        (&["for=1.2.3.4, for=10.0.0.1;host=app.test"], ("1.2.3.4:0", Some("app.test"), None)),
        (&["for=6.6.6.6", "for=1.2.3.4;proto=https", "for=10.0.0.1"], ("1.2.3.4:0", None, Some("https"))),
        (&[&hundred], ("7.7.7.7:0", None, None)),
        // A client opens quotes, escapes, separators: what the proxy adds is read all the same.
        (&["for=\", for=1.2.3.4"], ("1.2.3.4:0", None, None)),
        (&["for=\"x\\\", for=1.2.3.4"], ("1.2.3.4:0", None, None)),
        (&["for=\"6.6.6.6, for=\"[2001:db8::1]:1\""], ("[2001:db8::1]:1", None, None)),
        (&["for=6.6.6.6;\", for=1.2.3.4;host=\"app.test\""], ("1.2.3.4:0", Some("app.test"), None)),
        (&[";;;==,,,\\, for=1.2.3.4"], ("1.2.3.4:0", None, None)),
        // A comma in quotes is none.
        (&["for=1.2.3.4;host=\"a,b\""], ("1.2.3.4:0", Some("a,b"), None)),
        (&["for=1.2.3.4;host=\"a\\\",b\""], ("1.2.3.4:0", Some("a\",b"), None)),
        (&["for=6.6.6.6, for=1.2.3.4;host=\"a\\\\\""], ("1.2.3.4:0", Some("a\\"), None)),
        // Hidden, or what is none: the proxy itself.
        (&["for=1.2.3.4, for=_hidden"], ("10.0.0.9:4000", None, None)),
        (&["for=unknown;host=app.test"], ("10.0.0.9:4000", Some("app.test"), None)),
        (&["for=1.2.3.4, for=unknown, for=10.0.0.1"], ("10.0.0.1:0", None, None)),
        (&["proto=https"], ("10.0.0.9:4000", None, Some("https"))),
        (&["for=1.2.3.4;for=6.6.6.6"], ("10.0.0.9:4000", None, None)),
        (&["for=1.2.3.4,"], ("10.0.0.9:4000", None, None)),
        (&[""], ("10.0.0.9:4000", None, None)),
        (&["for"], ("10.0.0.9:4000", None, None)),
        (&["=1.2.3.4"], ("10.0.0.9:4000", None, None)),
        (&["for=\"1.2.3.4"], ("10.0.0.9:4000", None, None)),
        (&["for=1.2.3.4\""], ("10.0.0.9:4000", None, None)),
        (&["for=\"1.2.3.4\"x"], ("10.0.0.9:4000", None, None)),
        (&["for= 1.2.3.4"], ("10.0.0.9:4000", None, None)),
        (&["for=\"a\"b\""], ("10.0.0.9:4000", None, None)),
    ] {
        let (client, host, scheme) = expected;
        let origin = by_rfc7239(values);
        assert_eq!(shown(&origin), (client.to_owned(), host, scheme), "{values:?}");
        assert!(origin.by_proxy);
    }
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    let alphabet = b"for=host;,\"\\[]:._ 1029ab\t";
    let mut state = 0x9e37_79b9_u32;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let mut read = 0;
    for _ in 0..20_000 {
        let length = random(60);
        let text: Vec<u8> = (0..length).map(|_| alphabet[random(alphabet.len())]).collect();
        let text = String::from_utf8(text).expect("ASCII");
        let added = format!("{text}, for=1.2.3.4");
        read += usize::from(by_rfc7239(&[&text]).client.port() != 4000);
        // Whatever a client wrote, the proxy's own word counts.
        assert_eq!(by_rfc7239(&[&added]).client.to_string(), "1.2.3.4:0", "{text:?}");
        assert_eq!(by_x(&[("x-forwarded-for", &format!("{text}, 1.2.3.4"))]).client.to_string(), "1.2.3.4:0");
    }
    assert!(read < 20_000, "some of it is none");
}

fn of_bytes(family: Family, name: &'static str, value: &[u8]) -> Requester {
    let value = HeaderValue::from_bytes(value).expect("a value");
    let given = HeaderMap::from_iter([(hyper::header::HeaderName::from_static(name), value)]);
    proxies(family).requester("10.0.0.9:4000".parse().expect("an address"), &given)
}

#[test]
fn what_is_no_text_is_not_taken_for_absent() {
    for (value, host) in [
        (&b"\xff"[..], Some("\u{fffd}")),
        (b"\xff, app.example", Some("app.example")),
        (b"app.example, \xc3\xa4.example", Some("\u{e4}.example")),
        (b"", None),
    ] {
        assert_eq!(of_bytes(Family::X, "x-forwarded-host", value).host.as_deref(), host, "{value:?}");
    }
    assert_eq!(of_bytes(Family::X, "x-forwarded-proto", b"\xff").scheme.as_deref(), Some("\u{fffd}"));
    for (value, host) in [
        (&b"for=1.2.3.4;host=\xff"[..], Some("for=1.2.3.4;host=\u{fffd}")),
        (b"for=1.2.3.4;HOST=\"a\"b\"", Some("for=1.2.3.4;HOST=\"a\"b\"")),
        (b"for=1.2.3.4;host=a;host=b", Some("for=1.2.3.4;host=a;host=b")),
        (b"host=a;for=10.0.0.1, host=b c;for=10.0.0.2", Some("host=b c;for=10.0.0.2")),
        (b"for=\xff", None),
    ] {
        let origin = of_bytes(Family::Rfc7239, "forwarded", value);
        assert_eq!((origin.host.as_deref(), origin.client.port()), (host, 4000), "{value:?}");
    }
}

#[test]
fn a_client_s_own_bytes_do_not_hide_what_its_proxy_adds() {
    for value in [&b"\xff, 1.2.3.4"[..], b"\xff, \xe9, 1.2.3.4, 10.0.0.1"] {
        assert_eq!(of_bytes(Family::X, "x-forwarded-for", value).client.to_string(), "1.2.3.4:0", "{value:?}");
    }
    assert_eq!(of_bytes(Family::X, "x-forwarded-for", b"1.2.3.4, \xff").client.to_string(), "10.0.0.9:4000");
}
