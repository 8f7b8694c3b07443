//! How many unread messages mention a user.
//!
//! Two walks, over the user's mentions and over those of everybody, each in order of channels. Neither begins before a
//! channel is met that has a mention after the cursor.

use crate::env::fault;
use crate::error::Result;
use crate::kernel::View;
use crate::kernel::scan::Scan;
use crate::model::alteration::Alteration;
use crate::model::forgotten::HiddenRanges;
use crate::model::head::Head;
use crate::model::ids::{ChannelId, EVERYBODY, UserId};
use crate::model::key::{ChannelSeq, UserChannelSeq};
use crate::model::mention::Mention;

/// A user's mentions, asked for in order of channels.
pub(super) struct UnreadMentions<'v> {
    view: &'v View,
    user: UserId,
    named: Option<Scan<'v, Mention>>,
    all: Option<Scan<'v, Mention>>,
}

impl<'v> UnreadMentions<'v> {
    pub(super) fn new(view: &'v View, user: UserId) -> Self {
        UnreadMentions { view, user, named: None, all: None }
    }

    /// How many messages of a channel after `seq` mention the user, without those that were retracted, that the user hid, or
    /// that the user sent. Costs a step for each, and a look-up at and below the last message that was retracted.
    pub(super) fn count(
        &mut self,
        channel: ChannelId,
        head: &Head,
        seq: u64,
        hidden: &HiddenRanges,
    ) -> Result<u64> {
        if head.mentioned <= seq {
            return Ok(0);
        }
        let UnreadMentions { view, user, named, all } = self;
        let mut count = 0;
        for (whose, scan) in [(*user, named), (EVERYBODY, all)] {
            let from = UserChannelSeq { user: whose, channel, seq: seq + 1 };
            each_in(view, scan, from, |key, row| {
                if (row.is_of(key, *user) || fault(96)) && hidden.before(key.seq).is_none() {
                    count += u64::from(!is_retracted(view, head, key)?);
                }
                Ok(())
            })?;
        }
        Ok(count)
    }
}

/// Visits the rows of a channel from one on. The walk begins when it is first needed, and only goes forward.
fn each_in<'v>(
    view: &'v View,
    scan: &mut Option<Scan<'v, Mention>>,
    from: UserChannelSeq,
    mut visit: impl FnMut(UserChannelSeq, &Mention) -> Result<()>,
) -> Result<()> {
    let rows = match scan {
        Some(rows) => {
            rows.seek(from)?;
            rows
        }
        None => scan.insert(view.scan(from, 0)?),
    };
    while rows.peek().is_some_and(|key| key.channel == from.channel)
        && let Some((key, row)) = rows.next()?
    {
        visit(key, &row)?;
    }
    Ok(())
}

fn is_retracted(view: &View, head: &Head, key: UserChannelSeq) -> Result<bool> {
    let UserChannelSeq { channel, seq, .. } = key;
    let row = if seq <= head.retracted { view.row::<Alteration>(ChannelSeq { channel, seq })? } else { None };
    Ok(row.is_some_and(|row| row.retracted))
}
