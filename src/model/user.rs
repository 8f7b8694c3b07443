//! A user's own row: what a server keeps with a user, beside the memberships. Most users have none.

use super::blob::Blob;
use super::ids::UserId;
use super::image::image;

image! {
    /// What a server keeps with a user.
    pub struct User: table 5 by UserId;
    marks {}
    fields {
        /// What the server keeps with the user; empty to begin with.
        attributes: Blob = 1,
    }
    beside {}
    tombstone |_| false;
}
