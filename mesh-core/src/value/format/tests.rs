use super::*;

#[test]
fn a_faulty_format_is_refused_by_name() {
    for (format, expected) in [
        ("a %NO_SUCH% b", "at byte 2: command NO_SUCH: unknown or not supported"),
        ("%DYNAMIC_METADATA()%", "at byte 0: command DYNAMIC_METADATA: needs a namespace"),
        ("%PROTOCOL(x)%", "command PROTOCOL: takes no argument, got \"x\""),
        ("%REQ%", "command REQ: needs a name in parentheses"),
        ("%REQ()%", "command REQ: \"\" is not a header name"),
        ("%REQ(a b)%", "command REQ: \"a b\" is not a header name"),
        ("%REQ(a", "command REQ is not ended by %"),
        ("%REQ(a):x%", "command REQ is not ended by %"),
        ("%RESPONSE_CODE", "command RESPONSE_CODE is not ended by %"),
        ("100%", "at byte 3: expected a command name in capitals after %"),
        ("%lower%", "expected a command name in capitals after %"),
        ("%START_TIME(%Q)%", "command START_TIME: time conversion %Q is not supported"),
        ("%PATH(X)%", "command PATH: \"X\" is not one of WQ, NQ"),
        ("%METADATA(CLUSTER:a:b)%", "command METADATA: metadata of \"CLUSTER\" is not supported"),
        ("%GRPC_STATUS(x)%", "command GRPC_STATUS: \"x\" is not one of"),
    ] {
        let error = Format::parse(format).unwrap_err().to_string();
        assert!(error.contains(expected), "{format}: {error}");
    }
}

#[test]
fn a_literal_is_built_once_and_headers_read_are_known() {
    assert_eq!(Format::parse("100%%").unwrap().literal_value().unwrap(), "100%");
    assert_eq!(Format::literal("").literal_value().unwrap(), "");
    assert_eq!(Format::literal("two\nlines").literal_value(), None);
    let format = Format::parse("%REQ(:PATH?X-A)% %PROTOCOL% %RESP(X-B)% %REQ(USER-AGENT)%").unwrap();
    assert_eq!(format.literal_value(), None);
    let names: Vec<&str> = format.request_headers().map(HeaderName::as_str).collect();
    assert_eq!(names, ["x-a", "user-agent"]);
    let names: Vec<&str> = format.response_headers().map(HeaderName::as_str).collect();
    assert_eq!(names, ["x-b"]);
    let format = Format::parse("%GRPC_STATUS% %PATH%").unwrap();
    let names: Vec<&str> = format.request_headers().map(HeaderName::as_str).collect();
    assert_eq!(names, ["content-type", "x-envoy-original-path"]);
}
