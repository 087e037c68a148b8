//! `history --web`: a page on loopback that queries the history function with the caller's credentials.
//!
//! Whoever reaches the page can read the history of the organization, so it lets in one browser only (`guard`), and
//! shows nothing but what `page` has made of answers. The templates escape every text.

mod doorway;
mod guard;
mod page;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use doorway::Doorway;
use guard::Guard;
use page::Filters;
use serde_json::json;
use tokio::net::TcpListener;

use crate::arguments::History;
use crate::failure::{CommandFailure, Exit};
use crate::lambda::Functions;
use crate::screen::Screen;

/// What every request has access to.
struct Site {
    functions: Functions,
    /// The filters of the command line, with which the page opens.
    first: Filters,
}

/// Serves the page until the process ends.
pub(crate) async fn serve(functions: Functions, screen: &Screen, asked: &History) -> Result<Exit, CommandFailure> {
    let failure = |fault: &dyn std::fmt::Display| {
        CommandFailure::new(Exit::Failed, format!("the page cannot be served on this machine: {fault}"))
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|fault| failure(&fault))?;
    let port = listener.local_addr().map_err(|fault| failure(&fault))?.port();
    let guard = Guard::new(port).map_err(|fault| failure(&fault))?;
    let url = guard.url();
    let first = Filters::of_arguments(asked);
    if screen.is_json() {
        Screen::json(&json!({"url": url}), false)?;
    } else {
        screen.say("The history is open on this machine. The link opens once, in one browser:")?;
        // This is never wrapped: it is to be copied, or clicked.
        Screen::print(&format!("  {url}\n"))?;
        screen.say("Ctrl-C ends it.")?;
    }
    let guard = Arc::new(guard);
    if !asked.no_open {
        // If the file cannot be created, the address was printed.
        if let Ok(doorway) = Doorway::new(&url) {
            open(doorway.file());
            tokio::spawn(close(doorway, Arc::clone(&guard)));
        }
    }
    let router = router(Arc::new(Site { functions, first }), guard);
    axum::serve(listener, router).await.map_err(|fault| failure(&fault))?;
    Ok(Exit::Done)
}

fn router(site: Arc<Site>, guard: Arc<Guard>) -> Router {
    let path = guard.path();
    Router::new()
        .route(path, get(history))
        .route(&format!("{path}style.css"), get(style))
        .fallback(|| async { plain(StatusCode::NOT_FOUND, "There is no such page.") })
        .with_state(site)
        .layer(middleware::from_fn_with_state(guard, guard::check))
}

async fn history(State(site): State<Arc<Site>>, Query(filters): Query<Filters>) -> Response {
    let filters = if filters.is_unset() { site.first.clone() } else { filters };
    let (status, page) = page::build(&site.functions, filters).await;
    match page {
        Ok(html) => (status, Html(html)).into_response(),
        Err(fault) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("The page could not be made: {fault}")),
    }
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("templates/style.css")).into_response()
}

fn plain(status: StatusCode, text: &str) -> Response {
    (status, format!("{text}\n")).into_response()
}

/// The headers that keep a browser from storing an answer, framing it, and running or loading anything but the style
/// sheet.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Removes the file as soon as it was used, or after a while if nobody came. It cannot wait for the end: Ctrl-C leaves
/// no time for it.
async fn close(doorway: Doorway, guard: Arc<Guard>) {
    for _ in 0..120 {
        if guard.is_used() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    drop(doorway);
}

/// Tries to open the desktop's browser. If there is none, the address was printed.
fn open(file: &Path) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let spawned =
        Command::new(opener).arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    drop(spawned);
}
