//! Request lines: which are accepted, and as what.

use super::{
    super::Error::{
        self, AbsoluteTarget, FragmentInTarget, InvalidCharacters, InvalidStartLine, InvalidTarget, InvalidVersion,
        UnknownMethod,
    },
    LIMITS, options, request_head,
};
use crate::model::Http1Options;

type Table<'a> = &'a [(&'a str, Result<&'a str, Error>)];

/// Checks method, target and version of requests with these request lines.
fn check_lines(options: Http1Options, table: Table<'_>) {
    for (line, expected) in table {
        let head = request_head(format!("{line}\r\nhost: h\r\n\r\n").as_bytes(), options, LIMITS);
        let head = head.and_then(|head| match head.refused {
            Some(refused) => Err(refused),
            None => Ok(format!("{} {} {:?}", head.parts.method, head.parts.uri, head.parts.version)),
        });
        assert_eq!(head.as_deref().map_err(|error| *error), *expected, "{line:?}");
    }
}

#[test]
fn request_lines_are_words_between_blanks() {
    check_lines(
        options(),
        &[
            ("GET / HTTP/1.1", Ok("GET / HTTP/1.1")),
            ("GET  /a\t \tHTTP/1.1 ", Ok("GET /a HTTP/1.1")),
            ("GET\t/a\tHTTP/1.1", Ok("GET /a HTTP/1.1")),
            ("\r\n\n\r\r\nGET / HTTP/1.1", Ok("GET / HTTP/1.1")),
            ("GET", Err(InvalidStartLine)),
            ("GET / HTTP/1.1 x", Err(InvalidStartLine)),
            ("GET /a b HTTP/1.1", Err(InvalidStartLine)),
            (" GET / HTTP/1.1", Err(InvalidStartLine)),
            ("\tGET / HTTP/1.1", Err(InvalidStartLine)),
            ("\0GET / HTTP/1.1", Err(InvalidStartLine)),
            ("\u{16}\u{3}\u{1}", Err(InvalidStartLine)),
            ("GET / HTTP/1.1\r", Err(InvalidVersion)),
            ("GET /\r HTTP/1.1", Err(InvalidStartLine)),
            ("GET /\u{1} HTTP/1.1", Err(InvalidCharacters)),
            ("GE\u{7f}T / HTTP/1.1", Err(InvalidCharacters)),
        ],
    );
}

#[test]
fn versions_other_than_1_1_are_like_1_0() {
    check_lines(
        options(),
        &[
            ("GET / HTTP/1.0", Ok("GET / HTTP/1.0")),
            ("GET / HTTP/0.9", Ok("GET / HTTP/1.0")),
            ("GET / HTTP/1.2", Ok("GET / HTTP/1.0")),
            ("GET / HTTP/2.0", Ok("GET / HTTP/1.0")),
            ("GET /", Ok("GET / HTTP/1.0")),
            ("GET / http/1.1", Err(InvalidVersion)),
            ("GET / HTTP/1", Err(InvalidVersion)),
            ("GET / HTTP/1.10", Err(InvalidVersion)),
            ("GET / HTTP/1,1", Err(InvalidVersion)),
            ("GET / HTTP/a.1", Err(InvalidVersion)),
            ("GET / 1.1", Err(InvalidVersion)),
        ],
    );
}

#[test]
fn methods_are_registered_ones_unless_custom_ones_are_allowed() {
    let custom = Http1Options { allow_custom_methods: true, ..options() };
    for method in ["GET", "MSEARCH", "QUERY", "UNSUBSCRIBE", "PROPPATCH", "LINK"] {
        let (line, expected) = (format!("{method} / HTTP/1.1"), format!("{method} / HTTP/1.1"));
        check_lines(options(), &[(&line, Ok(&expected))]);
        check_lines(custom, &[(&line, Ok(&expected))]);
    }
    let long = "A".repeat(1000);
    for method in ["get", "Get", "M-SEARCH", "PRI", "G!#$%&'*+-.^_`|~9", long.as_str()] {
        let (line, expected) = (format!("{method} / HTTP/1.1"), format!("{method} / HTTP/1.1"));
        check_lines(options(), &[(&line, Err(UnknownMethod))]);
        check_lines(custom, &[(&line, Ok(&expected))]);
    }
    for method in ["G(T", "G\"T", "GET:", "G@T", "GËT"] {
        let line = format!("{method} / HTTP/1.1");
        check_lines(options(), &[(&line, Err(UnknownMethod))]);
        check_lines(custom, &[(&line, Err(UnknownMethod))]);
    }
}

#[test]
fn targets_have_the_four_forms_of_http() {
    check_lines(
        options(),
        &[
            ("GET //a/../b;c=%zz?d={e}&f=|^` HTTP/1.1", Ok("GET //a/../b;c=%zz?d={e}&f=|^` HTTP/1.1")),
            ("GET /a\\\"b\"[c] HTTP/1.1", Ok("GET /a\\\"b\"[c] HTTP/1.1")),
            ("OPTIONS * HTTP/1.1", Ok("OPTIONS * HTTP/1.1")),
            ("GET http://h HTTP/1.1", Ok("GET http://h/ HTTP/1.1")),
            ("GET HTTPS://h:81/a?b HTTP/1.1", Ok("GET https://h:81/a?b HTTP/1.1")),
            ("GET http://[::1]:8080/ HTTP/1.1", Ok("GET http://[::1]:8080/ HTTP/1.1")),
            ("CONNECT h:443 HTTP/1.1", Ok("CONNECT h:443 HTTP/1.1")),
            ("CONNECT [::1]:443 HTTP/1.1", Ok("CONNECT [::1]:443 HTTP/1.1")),
            ("GET * HTTP/1.1", Err(InvalidTarget)),
            ("OPTIONS *a HTTP/1.1", Err(InvalidTarget)),
            ("GET h HTTP/1.1", Err(InvalidStartLine)),
            ("GET h:80 HTTP/1.1", Err(InvalidStartLine)),
            ("GET ?a HTTP/1.1", Err(InvalidStartLine)),
            ("GET http:///a HTTP/1.1", Err(InvalidTarget)),
            ("GET ://h HTTP/1.1", Err(InvalidStartLine)),
            ("GET 1ttp://h HTTP/1.1", Err(InvalidStartLine)),
            ("GET http:h HTTP/1.1", Err(InvalidStartLine)),
            ("GET http://h:80:80/ HTTP/1.1", Err(InvalidTarget)),
            ("CONNECT é:443 HTTP/1.1", Err(InvalidStartLine)),
            ("GET /é HTTP/1.1", Err(InvalidStartLine)),
            ("GET /?é HTTP/1.1", Err(InvalidStartLine)),
            ("GET /<a> HTTP/1.1", Err(InvalidTarget)),
            ("GET /`a HTTP/1.1", Err(InvalidTarget)),
            ("GET /?\"a\" HTTP/1.1", Err(InvalidTarget)),
            ("CONNECT h HTTP/1.1", Err(InvalidTarget)),
            ("CONNECT h: HTTP/1.1", Err(InvalidTarget)),
            ("CONNECT h:65536 HTTP/1.1", Err(InvalidTarget)),
            ("CONNECT u@h:443 HTTP/1.1", Err(InvalidTarget)),
            ("CONNECT /h:443 HTTP/1.1", Err(InvalidTarget)),
            ("CONNECT http://h:443 HTTP/1.1", Err(InvalidTarget)),
            ("GET /a#b HTTP/1.1", Err(FragmentInTarget)),
            ("GET http://h/#b HTTP/1.1", Err(FragmentInTarget)),
        ],
    );
    let paths_only = Http1Options { allow_absolute_url: false, ..options() };
    check_lines(
        paths_only,
        &[
            ("GET http://h/ HTTP/1.1", Err(AbsoluteTarget)),
            ("GET /http://h/ HTTP/1.1", Ok("GET /http://h/ HTTP/1.1")),
            ("CONNECT h:443 HTTP/1.1", Ok("CONNECT h:443 HTTP/1.1")),
        ],
    );
}
