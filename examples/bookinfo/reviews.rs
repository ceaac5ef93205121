//! The reviews service in three versions: v1 has no stars, v2 black ones, v3 red ones.

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::HeaderMap,
    routing::get,
};
use mesh::{Channel, PeerIdentity};
use serde::{Deserialize, Serialize};

use crate::fetch;

/// A version of the service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    /// The label `version` of its endpoint.
    pub(crate) name: &'static str,
    /// The color of the stars from the ratings service; `None` = it does not call that service.
    pub(crate) stars: Option<&'static str>,
}

/// All versions.
pub(crate) const VERSIONS: [Version; 3] = [
    Version { name: "v1", stars: None },
    Version { name: "v2", stars: Some("black") },
    Version { name: "v3", stars: Some("red") },
];

/// The response of the service.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Reviews {
    pub(crate) id: u32,
    /// The version that responded.
    pub(crate) version: String,
    pub(crate) reviews: Vec<Review>,
}

/// The review of one reader.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Review {
    pub(crate) reviewer: String,
    pub(crate) text: String,
    pub(crate) rating: Option<Rating>,
}

/// The stars, or an error.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Rating {
    Stars { count: u64, color: String },
    Error(String),
}

#[derive(Clone, Debug)]
struct App {
    version: Version,
    ratings: Channel,
}

/// The service of one version, which gets stars from `ratings`.
pub(crate) fn router(version: Version, ratings: Channel) -> Router {
    Router::new()
        .route("/reviews/{product_id}", get(reviews))
        .route("/whoami", get(whoami))
        .with_state(App { version, ratings })
}

/// Who the client is, by its certificate.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Client {
    /// Its identity.
    pub(crate) identity: String,
    /// The serial number of its certificate.
    pub(crate) serial: String,
}

/// Tells the client who it is. A client in plain text is nobody.
async fn whoami(client: Option<Extension<PeerIdentity>>) -> Json<Option<Client>> {
    Json(client.map(|Extension(client)| Client {
        identity: client.certificate.uri_sans.join(", "),
        serial: client.certificate.serial.to_string(),
    }))
}

async fn reviews(State(app): State<App>, Path(id): Path<u32>, headers: HeaderMap) -> Json<Reviews> {
    let ratings = match app.version.stars {
        Some(color) => Some((color, fetch::json::<Ratings>(&app.ratings, &format!("/ratings/{id}"), &headers).await)),
        None => None,
    };
    let review = |reviewer: &str, text: &str| Review {
        reviewer: reviewer.to_owned(),
        text: text.to_owned(),
        rating: ratings.as_ref().map(|(color, answer)| match answer {
            Ok(ratings) => Rating::Stars {
                count: ratings.ratings.get(reviewer).copied().unwrap_or_default(),
                color: (*color).to_owned(),
            },
            Err(error) => Rating::Error(format!("Ratings service is currently unavailable: {error}")),
        }),
    };
    let reviews = vec![
        review("Reviewer1", "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"),
        review(
            "Reviewer2",
            "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare.",
        ),
    ];
    Json(Reviews { id, version: app.version.name.to_owned(), reviews })
}

#[derive(Debug, Deserialize)]
struct Ratings {
    ratings: std::collections::HashMap<String, u64>,
}
