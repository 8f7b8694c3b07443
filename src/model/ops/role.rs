//! Giving a member a role.

use super::member;
use crate::error::{Error, Result};
use crate::model::batch::Batch;
use crate::model::image::Patch;
use crate::model::membership::{Membership, field};
use crate::model::op::{Limits, operation};
use crate::model::outcome::Outcome;
use crate::model::state::Transaction;

operation! {
    /// Gives a member a role.
    Role = 10 "role" { channel: channel, user: user, role: number, }

    fn check(&self, _: &Limits) -> Result<()> {
        role_of(self.role).map(drop)
    }

    fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
        let (key, row) = member(txn, self.channel, self.user)?;
        let role = role_of(self.role)?;
        if row.role == role {
            return Ok(Outcome::Unchanged);
        }
        txn.patch::<Membership>(key, Patch::new().set(field::role, role))
    }
}

/// The role of a number in an operation.
pub(super) fn role_of(number: u64) -> Result<u8> {
    u8::try_from(number).map_err(|_| Error::invalid(format!("a role of {number}; 0 to 255 are allowed")))
}

impl Batch {
    /// Gives a member a role, which means what the server says: the store keeps the number and forbids nothing by it. Members
    /// begin with 0, unless [`JoinOptions::role`](crate::JoinOptions::role) says otherwise. It ends with the membership.
    pub fn role(&mut self, channel: impl AsRef<[u8]>, user: impl AsRef<[u8]>, role: u8) -> &mut Self {
        self.push(Role { channel: channel.as_ref(), user: user.as_ref(), role: role.into() })
    }
}
