//! The ports of the example, which its YAML contains too.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// The ports of all listeners, on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    numbers: [u16; COUNT],
}

const COUNT: usize = 15;

/// A listener of the example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    Productpage,
    Details,
    ReviewsV1,
    ReviewsV2,
    ReviewsV3,
    RatingsSidecar,
    Ratings,
    Gateway,
    ProductpageAdmin,
    RatingsSidecarAdmin,
    GatewayAdmin,
    DetailsAdmin,
    ReviewsV1Admin,
    ReviewsV2Admin,
    ReviewsV3Admin,
}

/// All listeners with their default ports. Those below 10000 occur in `mesh/*.yaml`.
const USUAL: [(Listener, u16, &str); COUNT] = [
    (Listener::Productpage, 9081, "productpage"),
    (Listener::Details, 9082, "details"),
    (Listener::ReviewsV1, 9083, "reviews v1"),
    (Listener::ReviewsV2, 9084, "reviews v2"),
    (Listener::ReviewsV3, 9085, "reviews v3"),
    (Listener::RatingsSidecar, 9086, "ratings' sidecar"),
    (Listener::Ratings, 9087, "ratings, the plain server"),
    (Listener::Gateway, 9088, "the gateway"),
    (Listener::ProductpageAdmin, 15000, "productpage's admin address"),
    (Listener::RatingsSidecarAdmin, 15001, "the sidecar's admin address"),
    (Listener::GatewayAdmin, 15002, "the gateway's admin address"),
    (Listener::DetailsAdmin, 15003, "details' admin address"),
    (Listener::ReviewsV1Admin, 15004, "the admin address of reviews v1"),
    (Listener::ReviewsV2Admin, 15005, "the admin address of reviews v2"),
    (Listener::ReviewsV3Admin, 15006, "the admin address of reviews v3"),
];

impl Ports {
    /// The default ports, as in the YAML.
    pub(crate) fn usual() -> Self {
        Self { numbers: USUAL.map(|(_, number, _)| number) }
    }

    /// Ports that are free on this machine.
    pub(crate) fn free() -> io::Result<Self> {
        // All sockets stay open until the last port is chosen, so that the ports differ.
        let held: Vec<TcpListener> =
            USUAL.iter().map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
        let mut numbers = [0; COUNT];
        for (number, listener) in numbers.iter_mut().zip(&held) {
            *number = listener.local_addr()?.port();
        }
        Ok(Self { numbers })
    }

    /// The address of `listener`.
    pub(crate) fn address(&self, listener: Listener) -> SocketAddr {
        let (_, number, _) = self.named().find(|(known, ..)| *known == listener).expect("the table has every listener");
        SocketAddr::from((Ipv4Addr::LOCALHOST, number))
    }

    /// Fails if a port is in use, with the port and the listener that needs it.
    pub(crate) fn require_unused(&self) -> Result<(), String> {
        for (_, number, user) in self.named() {
            TcpListener::bind((Ipv4Addr::LOCALHOST, number)).map_err(|error| {
                format!("127.0.0.1:{number}, the address of {user}, cannot be used: {error}; stop what listens there")
            })?;
        }
        Ok(())
    }

    /// Replaces the default ports in some of the example's YAML by these ports.
    pub(crate) fn rewrite(&self, yaml: &str) -> String {
        let mut rewritten = String::with_capacity(yaml.len());
        let mut rest = yaml;
        while let Some(start) = rest.find(|character: char| character.is_ascii_digit()) {
            let digits = rest[start..].find(|character: char| !character.is_ascii_digit());
            let end = digits.map_or(rest.len(), |length| start + length);
            let usual = USUAL.iter().position(|(_, usual, _)| rest[start..end] == usual.to_string());
            rewritten.push_str(&rest[..start]);
            match usual {
                Some(at) => rewritten.push_str(&self.numbers[at].to_string()),
                None => rewritten.push_str(&rest[start..end]),
            }
            rest = &rest[end..];
        }
        rewritten + rest
    }

    fn named(&self) -> impl Iterator<Item = (Listener, u16, &'static str)> {
        USUAL.iter().zip(self.numbers).map(|((listener, _, user), number)| (*listener, number, *user))
    }
}
