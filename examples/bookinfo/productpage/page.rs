//! The page as HTML.

use std::fmt::{self, Write as _};

use super::shares::{Share, Shares};
use crate::{
    proto::BookDetails,
    reviews::{Rating, Review, Reviews},
};

const TEMPLATE: &str = include_str!("page.html");

/// Fills in the template. An error is shown in place of data that could not be fetched.
pub(super) fn render(
    details: Result<&BookDetails, String>,
    reviews: Result<&Reviews, String>,
    shares: &[Share],
) -> String {
    let title = details.as_ref().map_or("Bookinfo", |details| details.title.as_str());
    TEMPLATE
        .replace("{{title}}", &Escaped(title).to_string())
        .replace("{{details}}", &details.map_or_else(|error| unavailable("details", &error), details_rows))
        .replace("{{reviews}}", &reviews.map_or_else(|error| unavailable("reviews", &error), reviews_section))
        .replace("{{shares}}", &shares_rows(shares))
        .replace("{{window}}", &Shares::WINDOW.to_string())
}

/// The reviews with the version that wrote them. The page's script fetches this part, too.
pub(super) fn reviews_section(reviews: &Reviews) -> String {
    let mut html = format!(
        "<p class=\"served\">served by <b class=\"{0}\" data-version=\"{0}\">reviews {0}</b></p>",
        Escaped(&reviews.version)
    );
    html.extend(reviews.reviews.iter().map(review_quote));
    html
}

/// The table of shares. The page's script fetches this part, too.
pub(super) fn shares_rows(shares: &[Share]) -> String {
    shares.iter().map(share_row).collect()
}

fn review_quote(review: &Review) -> String {
    let stars = match &review.rating {
        None => String::new(),
        Some(Rating::Stars { count, color }) => {
            let full = usize::try_from(*count).unwrap_or(5).min(5);
            format!(
                "<span class=\"stars {0}\" title=\"{full} of 5\">{1}{2}</span>",
                Escaped(color),
                "\u{2605}".repeat(full),
                "\u{2606}".repeat(5 - full)
            )
        }
        Some(Rating::Error(error)) => format!("<span class=\"unavailable\">{}</span>", Escaped(error)),
    };
    format!(
        "<blockquote><p>{}</p><footer>{} {stars}</footer></blockquote>",
        Escaped(&review.text),
        Escaped(&review.reviewer)
    )
}

fn details_rows(details: &BookDetails) -> String {
    let rows = [
        ("Author", details.author.clone()),
        ("Year", details.year.to_string()),
        ("Type", details.r#type.clone()),
        ("Pages", details.pages.to_string()),
        ("Publisher", details.publisher.clone()),
        ("Language", details.language.clone()),
        ("ISBN-13", details.isbn_13.clone()),
    ];
    let rows: String =
        rows.iter().map(|(name, value)| format!("<tr><th>{name}</th><td>{}</td></tr>", Escaped(value))).collect();
    format!("<table>{rows}</table>")
}

fn share_row(share: &Share) -> String {
    let Share { version, count, percent } = share;
    format!(
        "<tr><th class=\"{version}\">reviews {version}</th><td class=\"bar\"><i class=\"{version}\" \
         style=\"width:{percent}%\"></i></td><td>{percent} %</td><td>{count}</td></tr>"
    )
}

fn unavailable(service: &str, error: &str) -> String {
    format!("<p class=\"unavailable\">{service} are currently unavailable: {}</p>", Escaped(error))
}

/// Escapes a text for HTML.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
