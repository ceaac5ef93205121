//! Interim responses (1xx) on their way from the endpoint to the client.
//!
//! The upstream side pushes them while the client's connection polls the future of the request. The connection takes them
//! after each of these polls, so nothing needs to be woken.

use std::{collections::VecDeque, sync::Arc};

use http::{HeaderMap, Response, StatusCode};
use mesh_core::policy::hop_by_hop::{HopByHop, Upgrade, remove_hop_by_hop};
use parking_lot::Mutex;

/// The interim responses of a call that its client has not received yet. Clones are handles to the same responses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interim(Arc<Mutex<VecDeque<Response<()>>>>);

impl Interim {
    /// Maximum number of responses that wait. Further ones are dropped: a client must not rely on them (RFC 9110 section
    /// 15.2).
    const MAX_WAITING: usize = 16;

    /// Passes an interim response on, without its hop-by-hop headers. `101 Switching Protocols` is dropped, because it concerns
    /// one connection only.
    pub(crate) fn push(&self, status: StatusCode, mut headers: HeaderMap) {
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let mut waiting = self.0.lock();
        if waiting.len() < Self::MAX_WAITING {
            let present = HopByHop::of(&headers);
            remove_hop_by_hop(&mut headers, present, Upgrade::Remove);
            let mut response = Response::new(());
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            waiting.push_back(response);
        }
    }

    /// The next response for the client.
    pub(crate) fn take(&self) -> Option<Response<()>> {
        self.0.lock().pop_front()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    #[test]
    fn interim_responses_keep_their_order_and_are_bounded() {
        let pushed = Interim::default();
        let taken = pushed.clone();
        let link = HeaderMap::from_iter([(header::LINK, HeaderValue::from_static("</a>"))]);
        pushed.push(StatusCode::CONTINUE, HeaderMap::new());
        pushed.push(StatusCode::SWITCHING_PROTOCOLS, HeaderMap::new());
        pushed.push(StatusCode::OK, HeaderMap::new());
        let mut with_hop = link.clone();
        with_hop.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        for _ in 0..100 {
            pushed.push(StatusCode::EARLY_HINTS, with_hop.clone());
        }
        assert_eq!(taken.take().unwrap().status(), StatusCode::CONTINUE);
        let hints: Vec<_> = std::iter::from_fn(|| taken.take()).collect();
        assert_eq!(hints.len(), Interim::MAX_WAITING - 1);
        assert!(hints.iter().all(|hint| hint.status() == StatusCode::EARLY_HINTS && *hint.headers() == link));
    }
}
