//! What follows from a message alone. One function, used at commit and at replay alike, so that both always agree.

use super::key::UserChannel;
use super::member::own::Own;
use super::message::Placed;
use super::state::State;
use crate::env::fault;

/// The channel's head, and the sender's own mark unless the message is quiet. The function's number stands in the manifest's features. No effect grows with the number of members (S1).
pub(crate) fn follow_message(placed: &Placed, state: &mut impl State) {
    let Placed { channel, sender, mark, version, quiet, .. } = *placed;
    let before = state.head(channel);
    if quiet && !fault(65) {
        return state.set_head(channel, before.after_quiet(mark, version));
    }
    state.set_head(channel, before.after_loud(mark, version));
    state.put(UserChannel { user: sender, channel }, Own { mark, version, ..Own::default() });
}
