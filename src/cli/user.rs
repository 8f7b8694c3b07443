//! `user`: what a store keeps with one user.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::json::Bytes;
use crate::open;
use crate::output::{self, Output};
use crate::text;

/// Print what is kept with a user
#[derive(clap::Args)]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The user
    #[arg(long, value_name = "NAME")]
    user: OsString,
    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

/// A user as JSON.
#[derive(Serialize)]
struct User<'a> {
    #[serde(flatten)]
    user: Bytes<'a>,
    #[serde(flatten)]
    attributes: Option<Bytes<'a>>,
    version: u64,
}

/// Prints a user. An unknown one is a failure.
pub fn run(args: &Args) -> Result {
    let store = open::existing(&args.store)?;
    let name = open::name(&args.user);
    let row = store.user(name)?.ok_or_else(|| Failure::told("there is no such user"))?;
    let attributes = row.attributes.bytes().map_or(&[][..], |bytes| &bytes[..]);
    let mut out = Output::new();
    if args.json {
        let attributes = Some(attributes).filter(|bytes| !bytes.is_empty()).map(Bytes::attributes);
        out.json(&User { user: Bytes::user(name), attributes, version: row.version })?;
    } else {
        let mut table = output::table(&["user", "attributes"]);
        table.add_row([text::label(name), text::shown(attributes)]);
        out.line(table)?;
    }
    Ok(out.flush()?)
}
