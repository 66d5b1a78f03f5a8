//! What servers answer, good and hostile.

use serde_json::json;

use super::*;

/// A server that has said already what it will say, byte by byte or at once, and how it ends.
struct Said<'a> {
    bytes: &'a [u8],
    at_once: usize,
    end: Option<io::ErrorKind>,
    sent: Vec<u8>,
}

impl Read for Said<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.bytes, self.end) {
            ([], Some(kind)) => Err(kind.into()),
            (mut bytes, _) => {
                let n = bytes.read(&mut buffer[..self.at_once.min(16 * 1024)])?;
                self.bytes = bytes;
                Ok(n)
            }
        }
    }
}

impl Write for Said<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.sent.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn said(bytes: &[u8], at_once: usize) -> Wire<Said<'_>> {
    Wire::new(Said { bytes, at_once, end: None, sent: Vec::new() })
}

fn get(wire: &mut Wire<Said<'_>>) -> Result<HttpAnswer, HttpError> {
    wire.exchange("https://192.0.2.1", &HttpRequest::get("/"), &[])
}

fn answer(status: u16, body: &[u8]) -> HttpAnswer {
    HttpAnswer { status, body: body.to_vec() }
}

#[test]
fn one_answer_ends_where_the_next_begins() {
    let wire = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
        HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n\
        HTTP/1.1 204 No\r\n\r\n\
        HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n\
        HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 307 There\r\nLocation: /x\r\nContent-Length: 1\r\n\r\n-\
        HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort";
    for at_once in [1, 7, usize::MAX] {
        let mut wire = said(wire, at_once);
        for (status, body) in
            [(200, &b"abc"[..]), (201, b"abcde"), (204, b""), (401, b""), (307, b"-")]
        {
            assert_eq!(get(&mut wire).unwrap(), answer(status, body), "{at_once}");
        }
        match get(&mut wire) {
            Err(HttpError::Incomplete { answer: part, .. }) => {
                assert_eq!(part, answer(200, b"short"), "half a body is none");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(get(&mut wire), Err(HttpError::Closed(_))));
    }
}

#[test]
fn what_ends_without_an_answer_is_told_from_what_is_none() {
    for (bytes, end, closed) in [
        (&b""[..], None, true),
        // TLS 1.3: the server did not like the certificate.
        (b"", Some(io::ErrorKind::Other), true),
        (b"HTTP/1.1 200 O", None, false),
        (b"SSH-2.0-x\r\n", None, false),
        (b"HTTP/2 200\r\n\r\n", None, false),
        (b"HTTP/1.1 2\r\n\r\n", None, false),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", None, false),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", None, false),
    ] {
        let mut wire = said(bytes, usize::MAX);
        wire.stream.end = end;
        match get(&mut wire).unwrap_err() {
            HttpError::Closed(_) => assert!(closed, "{bytes:?}"),
            HttpError::NotHttp(_) => assert!(!closed, "{bytes:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_body_that_ends_with_the_connection_is_whole_only_if_that_ends_well() {
    let raw = b"HTTP/1.0 200 OK\r\nX: y\r\n\r\nbody";
    assert_eq!(get(&mut said(raw, 5)).unwrap(), answer(200, b"body"));
    let mut cut = said(raw, 5);
    cut.stream.end = Some(io::ErrorKind::ConnectionReset);
    assert!(matches!(get(&mut cut), Err(HttpError::Incomplete { .. })));
    let mut closing = said(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        9,
    );
    assert_eq!(get(&mut closing).unwrap(), answer(200, b""));
    assert!(matches!(get(&mut closing), Err(HttpError::Closed(_))), "it said that it closes");
}

#[test]
fn an_answer_without_an_end_is_an_error() {
    /// Says one thing, and then another for ever.
    struct Endless(&'static [u8], &'static [u8]);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                self.0 = self.1;
            }
            self.0.read(buffer)
        }
    }
    impl Write for Endless {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (start, rest, large) in [
        (&b"HTTP/1.1 200 OK\r\nA: "[..], &b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"[..], false),
        (b"HTTP/1.1 100 Go\r\n\r\n", b"HTTP/1.1 100 Go\r\n\r\n", false),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 67108865\r\n\r\n", b"x", true),
        (b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 16 * 1024], true),
        (CHUNKED, b"1;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", false),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n",
            true,
        ),
    ] {
        let mut wire = Wire::new(Endless(start, rest));
        let end = wire.exchange("https://h", &HttpRequest::get("/"), &[]).unwrap_err();
        assert_eq!(matches!(end, HttpError::TooLarge), large, "{end:?}");
        assert!(large || matches!(end, HttpError::NotHttp(_)), "{end:?}");
    }
}

#[test]
fn a_chunk_as_large_as_numbers_go_is_no_answer() {
    let raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx\r\n";
    assert!(get(&mut said(raw, usize::MAX)).is_err());
}

#[test]
fn a_request_says_what_it_is_and_nothing_else_can_be_slipped_in() {
    let sent = |origin: &str, request: &HttpRequest, headers: &Headers<'_>| {
        let (_, bytes) = prepare(origin, request, headers)?;
        Ok::<_, HttpError>(String::from_utf8(bytes).unwrap().to_lowercase())
    };
    let v4 = sent("https://192.0.2.1", &HttpRequest::get("/a?b=c%2Fd"), &[]).unwrap();
    assert_eq!(v4, "get /a?b=c%2fd http/1.1\r\nhost: 192.0.2.1\r\n\r\n");
    let origin = format!("https://{}", authority("fd00::1"));
    let body = json!({"a": 1});
    let patch = sent(&origin, &HttpRequest::apply_patch("/x", &body), &[]).unwrap();
    for part in [
        "patch /x http/1.1\r\n",
        "\r\nhost: [fd00::1]\r\n",
        "\r\ncontent-type: application/apply-patch+yaml\r\n",
        "\r\ncontent-length: 7\r\n",
        "\r\n\r\n{\"a\":1}",
    ] {
        assert!(patch.contains(part), "{part:?}: {patch}");
    }
    let token = |t: &str| HttpRequest::get("/").with_token(&Secret::new(t.to_owned()));
    let with = sent(&origin, &token("abc"), &[(CONNECTION, "close")]).unwrap();
    assert!(with.contains("\r\nauthorization: bearer abc\r\n") && with.contains("close"));
    let metadata = HttpRequest::get("/").accepting("application/json;as=x;v=v1");
    let metadata = sent(&origin, &metadata, &[]).unwrap();
    assert!(metadata.contains("\r\naccept: application/json;as=x;v=v1\r\n"), "{metadata}");
    for path in ["/a b", "/a\r\nX: y", "a", "", "/\u{1b}"] {
        assert!(sent(&origin, &HttpRequest::get(path), &[]).is_err(), "{path:?}");
    }
    let bad = sent(&origin, &token("planted\r\nX: y"), &[]).unwrap_err();
    assert!(!format!("{bad:?} {bad}").contains("planted"));
}

#[test]
fn a_web_socket_is_read_until_the_words_that_are_waited_for() {
    let raw = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\x82\x05hello and more";
    let mut wire = said(raw, 3);
    assert_eq!(get(&mut wire).unwrap().status, 101);
    let heard = wire.read_until(b"hello", 1000);
    assert!(heard.windows(5).any(|w| w == b"hello") && heard.len() < 10, "{heard:?}");
    let mut wire = said(raw, 3);
    get(&mut wire).unwrap();
    assert!(wire.read_until(b"never", 1000).ends_with(b"more"));
    let mut wire = said(raw, 3);
    get(&mut wire).unwrap();
    assert!(wire.read_until(b"never", 4).len() < 8);
}

proptest::proptest! {
    #[test]
    fn nothing_panics_and_how_it_is_cut_does_not_matter(
        raw in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
        at_once in 1_usize..50,
    ) {
        let chunked = [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &raw].concat();
        let headers = [&b"HTTP/1.1 200 OK\r\n"[..], &raw].concat();
        for bytes in [&raw, &chunked, &headers] {
            let whole = get(&mut said(bytes, usize::MAX));
            let cut = get(&mut said(bytes, at_once));
            proptest::prop_assert_eq!(whole.ok(), cut.ok());
        }
    }

    #[test]
    fn what_a_server_chunks_is_put_together(
        chunks in proptest::collection::vec("[a-z]{1,40}", 0..20), at_once in 1_usize..50,
    ) {
        let mut raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            raw.extend(format!("{:x}\r\n{chunk}\r\n", chunk.len()).bytes());
        }
        raw.extend(b"0\r\n\r\n");
        let got = get(&mut said(&raw, at_once)).unwrap();
        proptest::prop_assert_eq!(got, answer(200, chunks.concat().as_bytes()));
    }
}
