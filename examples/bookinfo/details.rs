//! The details service: bibliographic data of the book, over gRPC.

use tonic::{Request, Response, Status, service::Routes};

use crate::proto::{
    BookDetails, DetailsRequest,
    details_server::{Details, DetailsServer},
};

#[derive(Debug)]
struct Bookshelf;

#[tonic::async_trait]
impl Details for Bookshelf {
    async fn get_details(&self, request: Request<DetailsRequest>) -> Result<Response<BookDetails>, Status> {
        if request.get_ref().product_id != 0 {
            return Err(Status::not_found("there is one book only, number 0"));
        }
        Ok(Response::new(BookDetails {
            title: "The Comedy of Errors".into(),
            author: "William Shakespeare".into(),
            year: 1595,
            r#type: "paperback".into(),
            pages: 200,
            publisher: "PublisherA".into(),
            language: "English".into(),
            isbn_13: "123-1234567890".into(),
        }))
    }
}

/// The service, which is to be served by the mesh.
pub(crate) fn service() -> Routes {
    Routes::new(DetailsServer::new(Bookshelf))
}
