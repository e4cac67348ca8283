//! Five worlds that the research on the judge has not seen. They were written down and committed before the judge was run in them, and one
//! rule was changed afterwards, for 5: a block does not end in a wave ([`haldane::decide::judge::collect`]). Before that, 5 took back 100 % of good
//! releases, and 84 % when the counters are a tenth of a second late.
//!
//! 1. *Retry storm*: the length of a train of failing requests has a heavy tail, so that no mean describes it; one in a hundred is longer
//!    than 46. A block may hold hundreds of errors of one client.
//! 2. *Short node*: pods do not fail alone. Canary pods stand on the same five nodes as stable's; one node at a time is short of CPU for 20 to
//!    90 s. Bursts are longer than the 15 s block, and longer than most histories of half an hour show.
//! 3. *Swinging share*: the data plane gives the canary half as much and half as much again as was asked, every 10 s, and errors come in waves
//!    of the same 10 s, in step with it (Simpson 1951). Whoever sums over more than one scrape before comparing is fooled.
//! 4. *Moving tenant*: a fifth of all requests are one tenant's, fail ten times as often, and are on one side for a minute at a time, drawn
//!    by the share. This is the stuck client of the research, who is drawn anew.
//! 5. *Skewed scrapes*: the canary's counters are read a second later than stable's, and every 10 s a batch doubles the load and makes half of
//!    that second's requests fail. Errors of one side are compared with requests of another moment.

use crate::worlds::{Noise, World, world};

pub(crate) const UNSEEN: [World; 5] = [
    world("unseen 1: retry storm", Noise::RetryStorm),
    world("unseen 2: short node", Noise::Node),
    world("unseen 3: swinging share", Noise::Swing),
    world("unseen 4: moving tenant", Noise::Tenant { moves: false }),
    world("unseen 5: skewed scrapes", Noise::Skew { tenths: 10 }),
];

/// Asked after the five had been run: what exactly is it that hurts in 4 and 5?
pub(crate) const AFTERWARDS: [World; 2] = [
    world("afterwards: 4, and its history shows the tenant move", Noise::Tenant { moves: true }),
    world("afterwards: 5, a tenth of a second late", Noise::Skew { tenths: 1 }),
];
