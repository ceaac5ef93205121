//! The productpage service: a page with a book's details and reviews, and the version that wrote the reviews.

mod page;
mod shares;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{Html, Redirect},
    routing::get,
};
use mesh::Channel;
use tokio::join;

use self::shares::Shares;
use crate::{
    fetch,
    proto::{BookDetails, DetailsRequest, details_client::DetailsClient},
    reviews::Reviews,
};

/// The only book.
const PRODUCT: u32 = 0;

#[derive(Clone, Debug)]
struct App {
    details: Channel,
    reviews: Channel,
    shares: Arc<Shares>,
}

/// The service, which calls `details` by gRPC and `reviews` by HTTP.
pub(crate) fn router(details: Channel, reviews: Channel) -> Router {
    Router::new()
        .route("/", get(async || Redirect::temporary("/productpage")))
        .route("/productpage", get(productpage))
        .route("/fragments/reviews", get(reviews_fragment))
        .route("/fragments/shares", get(shares_fragment))
        .route("/api/v1/products/{product_id}/reviews", get(reviews_api))
        .with_state(App { details, reviews, shares: Arc::default() })
}

async fn productpage(State(app): State<App>, headers: HeaderMap) -> (StatusCode, Html<String>) {
    let (details, reviews) = join!(app.details(PRODUCT), app.reviews(PRODUCT, &headers));
    let status = if details.is_ok() && reviews.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let html = page::render(
        details.as_ref().map_err(|status| status.message().to_owned()),
        reviews.as_ref().map_err(ToString::to_string),
        &app.shares.table(),
    );
    (status, Html(html))
}

async fn reviews_fragment(State(app): State<App>, headers: HeaderMap) -> Result<Html<String>, StatusCode> {
    let reviews = app.reviews(PRODUCT, &headers).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(Html(page::reviews_section(&reviews)))
}

async fn shares_fragment(State(app): State<App>) -> Html<String> {
    Html(page::shares_rows(&app.shares.table()))
}

async fn reviews_api(
    State(app): State<App>,
    Path(product_id): Path<u32>,
    headers: HeaderMap,
) -> Result<Json<Reviews>, (StatusCode, String)> {
    let reviews = app.reviews(product_id, &headers).await;
    reviews.map(Json).map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, format!("reviews: {error}\n")))
}

impl App {
    async fn details(&self, product_id: u32) -> Result<BookDetails, tonic::Status> {
        let mut client = DetailsClient::new(self.details.clone());
        Ok(client.get_details(DetailsRequest { product_id }).await?.into_inner())
    }

    async fn reviews(&self, product_id: u32, headers: &HeaderMap) -> Result<Reviews, fetch::Error> {
        let reviews: Reviews = fetch::json(&self.reviews, &format!("/reviews/{product_id}"), headers).await?;
        self.shares.record(&reviews.version);
        Ok(reviews)
    }
}
