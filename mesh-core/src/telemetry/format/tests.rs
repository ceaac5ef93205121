use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use super::*;
use crate::{
    model::{
        JsonField, Metadata, MetadataValue, NetworkAddress,
        format::{DEFAULT_TEXT, Format, ISTIO_TEXT},
    },
    telemetry::{Attributes, ResponseFlags},
    tls::{CertificateInfo, PeerIdentity, TlsInfo},
};

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs =
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
    pairs.collect()
}

fn text(format: &str, attributes: &Attributes<'_>, missing: Missing) -> String {
    let mut out = Vec::new();
    Format::parse(format).unwrap().write(attributes, missing, &mut out);
    String::from_utf8(out).unwrap()
}

fn line(format: &str, attributes: &Attributes<'_>) -> String {
    text(format, attributes, Missing::Dash)
}

fn time() -> SystemTime {
    UNIX_EPOCH + Duration::new(1_522_425_600, 123_456_789)
}

/// The log line and the attributes of `/x?a=b` in the `access_log` comparison with Envoy.
const MANY: &str = "m=%REQ(:METHOD)% p=%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% proto=%PROTOCOL% code=%RESPONSE_CODE% \
    det=%RESPONSE_CODE_DETAILS% flags=%RESPONSE_FLAGS% long=%RESPONSE_FLAGS_LONG% rx=%BYTES_RECEIVED% \
    tx=%BYTES_SENT% ua=%REQ(USER-AGENT)% xff=%REQ(X-FORWARDED-FOR)% auth=%REQ(:AUTHORITY)% up=%UPSTREAM_HOST% \
    upc=%UPSTREAM_CLUSTER% upraw=%UPSTREAM_CLUSTER_RAW% remote=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% \
    direct=%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% local=%DOWNSTREAM_LOCAL_ADDRESS% \
    lport=%DOWNSTREAM_LOCAL_PORT% route=%ROUTE_NAME% vh=%VIRTUAL_CLUSTER_NAME% resp=%RESP(x-resp)% \
    sni=%REQUESTED_SERVER_NAME% attempts=%UPSTREAM_REQUEST_ATTEMPT_COUNT% fail=%UPSTREAM_TRANSPORT_FAILURE_REASON% \
    conn=%CONNECTION_TERMINATION_DETAILS% upproto=%UPSTREAM_PROTOCOL% md=%METADATA(ROUTE:ns:k)% \
    tls=%DOWNSTREAM_TLS_VERSION% q=%PATH(NQ:PATH)% scheme=%REQ(:SCHEME)% type=%ACCESS_LOG_TYPE% \
    hdr=%REQUEST_HEADERS_BYTES%";

#[test]
fn a_forwarded_request_is_logged_as_envoy_logs_it() {
    let request = headers(&[("user-agent", "agent \"q\""), ("x-forwarded-for", "1.2.3.4,192.0.2.7")]);
    let response = headers(&[("x-resp", "r v")]);
    let namespace = MetadataValue::Object([("k".into(), MetadataValue::String("v".into()))].into());
    let metadata = Metadata { filter_metadata: [("ns".into(), namespace)].into() };
    let upstream_host = NetworkAddress::Socket("127.0.0.1:9001".parse().unwrap());
    let attributes = Attributes {
        method: Some(&Method::GET),
        scheme: Some("http"),
        authority: Some("localhost"),
        path: Some("/y?a=b"),
        original_path: Some("/x?a=b"),
        request_headers: Some(&request),
        response_headers: Some(&response),
        protocol: Some(Version::HTTP_11),
        upstream_protocol: Some(Version::HTTP_2),
        response_code: Some(StatusCode::OK),
        response_code_details: Some("via_upstream"),
        bytes_sent: 3,
        request_headers_bytes: 99,
        downstream_remote_address: Some("127.0.0.1:4000".parse().unwrap()),
        downstream_direct_remote_address: Some("127.0.0.1:4000".parse().unwrap()),
        downstream_local_address: Some("127.0.0.1:8080".parse().unwrap()),
        upstream_host: Some(&upstream_host),
        upstream_cluster: Some("up1"),
        upstream_cluster_raw: Some("up1"),
        upstream_request_attempt_count: 1,
        route_name: Some("r-main"),
        route_metadata: Some(&metadata),
        access_log_type: Some("DownstreamEnd"),
        ..Attributes::default()
    };
    let dynamic = Attributes { dynamic_metadata: Some(&metadata), ..Attributes::default() };
    assert_eq!(line("%DYNAMIC_METADATA(ns:k)% %DYNAMIC_METADATA(ns:x)%", &dynamic), "v -");
    assert_eq!(
        line(MANY, &attributes),
        "m=GET p=/x?a=b proto=HTTP/1.1 code=200 det=via_upstream flags=- long=- rx=0 tx=3 ua=agent \"q\" \
         xff=1.2.3.4,192.0.2.7 auth=localhost up=127.0.0.1:9001 upc=up1 upraw=up1 remote=127.0.0.1 direct=127.0.0.1 \
         local=127.0.0.1:8080 lport=8080 route=r-main vh=- resp=r v sni=- attempts=1 fail=- conn=- upproto=HTTP/2 \
         md=v tls=- q=/y scheme=http type=DownstreamEnd hdr=99"
    );
}

#[test]
fn a_missing_value_is_a_dash() {
    let attributes = Attributes {
        response_code: Some(StatusCode::NOT_FOUND),
        response_flags: ResponseFlags::NO_ROUTE_FOUND,
        ..Attributes::default()
    };
    assert_eq!(
        line(MANY, &attributes),
        "m=- p=- proto=- code=404 det=- flags=NR long=NoRouteFound rx=0 tx=0 ua=- xff=- auth=- up=- upc=- upraw=- \
         remote=- direct=- local=- lport=- route=- vh=- resp=- sni=- attempts=0 fail=- conn=- upproto=- md=- tls=- q=- \
         scheme=- type=- hdr=0"
    );
}

#[test]
fn an_endpoint_at_a_unix_socket_is_logged_by_its_path() {
    let host = NetworkAddress::Pipe("/run/a.sock".into());
    let attributes =
        Attributes { upstream_host: Some(&host), upstream_remote_address: Some(&host), ..Attributes::default() };
    let format = "%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%";
    assert_eq!(line(format, &attributes), "/run/a.sock /run/a.sock -");
}

#[test]
fn the_default_formats_are_envoys_and_istios() {
    let request = headers(&[("user-agent", "curl"), ("x-request-id", "id")]);
    let response = headers(&[("x-envoy-upstream-service-time", "7")]);
    let upstream_host = NetworkAddress::Socket("10.0.0.1:80".parse().unwrap());
    let attributes = Attributes {
        method: Some(&Method::POST),
        authority: Some("shop"),
        path: Some("/a"),
        request_headers: Some(&request),
        response_headers: Some(&response),
        protocol: Some(Version::HTTP_2),
        response_code: Some(StatusCode::GATEWAY_TIMEOUT),
        response_flags: ResponseFlags::UPSTREAM_REQUEST_TIMEOUT,
        bytes_received: 5,
        bytes_sent: 24,
        start_time: Some(time()),
        duration: Some(Duration::from_micros(9_999)),
        upstream_host: Some(&upstream_host),
        ..Attributes::default()
    };
    assert_eq!(
        line(DEFAULT_TEXT, &attributes),
        "[2018-03-30T16:00:00.123Z] \"POST /a HTTP/2\" 504 UT 5 24 9 7 \"-\" \"curl\" \"id\" \"shop\" \"10.0.0.1:80\"\n"
    );
    assert_eq!(
        line(ISTIO_TEXT, &attributes),
        "[2018-03-30T16:00:00.123Z] \"POST /a HTTP/2\" 504 UT - - \"-\" 5 24 9 7 \"-\" \"curl\" \"id\" \"shop\" \
         \"10.0.0.1:80\" - - - - - -\n"
    );
}

/// The `headers_format` comparison with Envoy.
#[test]
fn a_missing_value_is_empty_in_a_header() {
    let request = headers(&[("x-alt", "alt")]);
    let attributes = Attributes {
        method: Some(&Method::GET),
        authority: Some("localhost"),
        path: Some("/some/path?x=1"),
        request_headers: Some(&request),
        hostname: Some("node"),
        ..Attributes::default()
    };
    for (format, expected) in [
        ("%REQ(:PATH)%", "/some/path?x=1"),
        ("%REQ(:PATH):5%", "/some"),
        ("%REQ(:PATH):0%", ""),
        ("%REQ(X-MISSING?X-ALT)%", "alt"),
        ("100%%", "100%"),
        ("%HOSTNAME%", "node"),
        ("a %REQ(x-alt)% b %REQ(x-none)%", "a alt b "),
        ("%RESPONSE_FLAGS%", "-"),
        ("%REQ(:METHOD)% %REQ(HOST)%", "GET localhost"),
        ("%QUERY_PARAM(x)%%QUERY_PARAM(y)%", "1"),
        ("%PATH(NQ)% %PATH% %PATH(:ORIG)%", "/some/path /some/path?x=1 "),
    ] {
        assert_eq!(text(format, &attributes, Missing::Empty), expected, "{format}");
    }
}

#[test]
fn a_grpc_status_is_written_by_name_or_number() {
    let request = headers(&[("content-type", "application/grpc")]);
    let trailers = headers(&[("grpc-status", "3")]);
    let odd = headers(&[("grpc-status", "77")]);
    let call = Attributes { request_headers: Some(&request), ..Attributes::default() };
    let format = "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%";
    for (attributes, expected) in [
        (Attributes { response_trailers: Some(&trailers), ..call }, "InvalidArgument INVALID_ARGUMENT 3"),
        (Attributes { response_headers: Some(&trailers), ..call }, "InvalidArgument INVALID_ARGUMENT 3"),
        (Attributes { response_trailers: Some(&odd), ..call }, "77 77 77"),
        (Attributes { response_code: Some(StatusCode::SERVICE_UNAVAILABLE), ..call }, "Unavailable UNAVAILABLE 14"),
        (call, "- - -"),
        (Attributes { response_trailers: Some(&trailers), ..Attributes::default() }, "- - -"),
    ] {
        assert_eq!(line(format, &attributes), expected);
    }
}

#[test]
fn times_are_in_utc() {
    for (format, expected) in [
        ("%START_TIME%", "2018-03-30T16:00:00.123Z"),
        ("%START_TIME(%Y/%m/%d %T.%3f %a %b %e %j)%", "2018/03/30 16:00:00.123 Fri Mar 30 089"),
        ("%START_TIME(%s.%6f)%", "1522425600.123456"),
        ("%START_TIME(%F %H-%M-%E6S %z%%)%", "2018-03-30 16-00-00.123456 +0000%"),
        ("%START_TIME(%f)%", "123456789"),
    ] {
        assert_eq!(
            line(format, &Attributes { start_time: Some(time()), ..Attributes::default() }),
            expected,
            "{format}"
        );
    }
    for (seconds, expected) in [
        (0, "1970-01-01 001 Thu"),
        (951_782_400, "2000-02-29 060 Tue"),
        (1_709_164_800, "2024-02-29 060 Thu"),
        (1_735_603_200, "2024-12-31 366 Tue"),
        (4_107_542_400, "2100-03-01 060 Mon"),
    ] {
        let start_time = Some(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(line("%START_TIME(%F %j %a)%", &Attributes { start_time, ..Attributes::default() }), expected);
    }
}

#[test]
fn json_keeps_types_and_escapes_text() {
    let request = headers(&[("x-quote", "a\"b\\")]);
    let attributes = Attributes {
        path: Some("/p"),
        request_headers: Some(&request),
        response_code: Some(StatusCode::OK),
        bytes_sent: 3,
        ..Attributes::default()
    };
    let field = |format: &str| JsonField::Format(Format::parse(format).unwrap());
    let nested = vec![("flags".into(), field("%RESPONSE_FLAGS%")), ("path".into(), field("%REQ(:PATH)%"))];
    let fields = [
        ("bytes".into(), field("%BYTES_SENT%")),
        ("code".into(), field("%RESPONSE_CODE%")),
        ("list".into(), JsonField::List(vec![field("%PROTOCOL%"), field("x")])),
        ("missing".into(), field("%REQ(x-none)%")),
        ("nested".into(), JsonField::Object(nested)),
        ("quote".into(), field("%REQ(x-quote)%")),
        ("text".into(), field("code=%RESPONSE_CODE% %REQ(x-none)%")),
    ];
    let mut out = Vec::new();
    write_json(&fields, &attributes, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"bytes\":3,\"code\":200,\"list\":[null,\"x\"],\"missing\":null,\
         \"nested\":{\"flags\":\"-\",\"path\":\"/p\"},\"quote\":\"a\\\"b\\\\\",\"text\":\"code=200 -\"}\n"
    );
}

#[test]
fn commands_about_tls_read_both_certificates() {
    let certificate = CertificateInfo {
        uri_sans: vec!["spiffe://td/web".into(), "spiffe://td/b".into()],
        subject: "CN=web".into(),
        serial: "0a".into(),
        not_after: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)),
        ..CertificateInfo::default()
    };
    let local = CertificateInfo { dns_sans: vec!["a.test".into()], ..CertificateInfo::default() };
    let peer =
        PeerIdentity { certificate: certificate.into(), chain: [Bytes::from_static(&[1])].into(), is_verified: true };
    let tls = TlsInfo {
        cipher_suite: "TLS_AES_128_GCM_SHA256".into(),
        peer: Some(peer),
        local: Some(local.into()),
        ..TlsInfo::default()
    };
    let text = |format: &str, attributes: &Attributes<'_>| {
        let mut out = Vec::new();
        Format::parse(format).unwrap().write(attributes, Missing::Dash, &mut out);
        String::from_utf8(out).unwrap()
    };
    let format = "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER% %DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_SUBJECT% \
        %DOWNSTREAM_PEER_ISSUER% %DOWNSTREAM_PEER_SERIAL% %DOWNSTREAM_PEER_CERT_V_END(%s)% %DOWNSTREAM_LOCAL_DNS_SAN% \
        %UPSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_CERT%";
    let downstream = Attributes { downstream_tls: Some(&tls), ..Attributes::default() };
    assert_eq!(
        text(format, &downstream),
        "TLSv1.3 TLS_AES_128_GCM_SHA256 spiffe://td/web,spiffe://td/b CN=web - 0a 1 a.test - \
         -----BEGIN%20CERTIFICATE-----%0AAQ%3D%3D%0A-----END%20CERTIFICATE-----%0A"
    );
    let upstream = Attributes { upstream_tls: Some(&tls), ..Attributes::default() };
    assert_eq!(text("%UPSTREAM_PEER_SUBJECT% %UPSTREAM_TLS_VERSION%", &upstream), "CN=web TLSv1.3");
    assert_eq!(text("%DOWNSTREAM_PEER_SUBJECT%", &Attributes::default()), "-");
    for unknown in ["%DOWNSTREAM_PEER_COLOR%", "%DOWNSTREAM_TLS_VERSION(x)%", "%PEER_SUBJECT%"] {
        assert!(Format::parse(unknown).is_err(), "{unknown}");
    }
}
