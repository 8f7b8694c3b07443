//! Ending the memberships of deleted users, so that channels count their members right (DESIGN 9.4). The ending itself is an
//! ordinary commit.

use super::files::Upkeep;
use crate::error::Result;
use crate::model::batch::Batch;
use crate::model::ids::{ChannelId, Named};
use crate::model::membership::{Membership, key};

/// What is to be ended next.
pub struct Endings {
    /// The operations that do it.
    pub batch: Batch,
    /// How many memberships that are.
    pub memberships: u64,
}

impl Upkeep {
    /// Up to `most` memberships of deleted users, and who has none left.
    pub fn endings(&self, most: usize) -> Result<Endings> {
        let view = self.kernel.view()?;
        let mut endings = Endings { batch: Batch::new(), memberships: 0 };
        for user in self.kernel.fates.unended(most) {
            // What is not published yet has its turn later.
            if !view.is_dead(Named::User, user.0) {
                continue;
            }
            let name = view.name(Named::User, user.0)?;
            let mut rows = view.scan::<Membership>(key(ChannelId(0), user), 0)?;
            while let Some((at, row)) = rows.next()? {
                if !row.present() || view.head_of(at.channel).dead() {
                    continue;
                }
                if endings.batch.len() >= most {
                    return Ok(endings);
                }
                endings.batch.end_membership(&name, user, Some(at.channel));
                endings.memberships += 1;
            }
            endings.batch.end_membership(&name, user, None);
        }
        Ok(endings)
    }
}
