//! Pure: merges several sorted streams of items into changes, each with everything that the streams hold of it.

use std::collections::VecDeque;

use super::history_query::Order;
use super::record::RawRecord;
use crate::ids::ChangeId;
use crate::ledger::key::RecordKey;

/// An item with its sort key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyedItem {
    /// The sort key.
    pub key: RecordKey,
    /// The item.
    pub item: RawRecord,
}

/// The next step of a merge.
#[derive(Debug, PartialEq)]
pub enum MergeStep {
    /// All items under one change id. Two services share an id only where the kernel gave no random bytes.
    Group {
        /// The id.
        change_id: ChangeId,
        /// The items.
        items: Vec<KeyedItem>,
    },
    /// These streams have to be read further first.
    Read(Vec<usize>),
    /// All streams have ended.
    End,
}

/// Streams of items, each sorted by key in the same order.
#[derive(Debug)]
pub struct Merge {
    streams: Vec<Stream>,
    order: Order,
}

#[derive(Debug, Clone, Default)]
struct Stream {
    items: VecDeque<KeyedItem>,
    has_ended: bool,
}

impl Stream {
    fn next_id(&self) -> Option<&ChangeId> {
        self.items.front().map(|item| &item.key.change_id)
    }

    /// Whether no further item of `id` can come.
    fn is_past(&self, id: &ChangeId) -> bool {
        self.has_ended || self.items.back().is_some_and(|last| last.key.change_id != *id)
    }
}

impl Merge {
    /// `count` streams of which nothing was read yet.
    #[must_use]
    pub fn new(count: usize, order: Order) -> Self {
        Self { streams: vec![Stream::default(); count], order }
    }

    /// Adds what was read from a stream.
    pub fn add(&mut self, stream: usize, items: Vec<KeyedItem>, has_ended: bool) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.items.extend(items);
            stream.has_ended = has_ended;
        }
    }

    /// The next change, or what has to be read to know it.
    pub fn step(&mut self) -> MergeStep {
        let unread = self.which(|stream| stream.items.is_empty() && !stream.has_ended);
        if !unread.is_empty() {
            return MergeStep::Read(unread);
        }
        let ids = self.streams.iter().filter_map(Stream::next_id);
        let next = match self.order {
            Order::NewestFirst => ids.max(),
            Order::OldestFirst => ids.min(),
        };
        let Some(change_id) = next.cloned() else { return MergeStep::End };
        let unfinished = self.which(|stream| stream.next_id() == Some(&change_id) && !stream.is_past(&change_id));
        if !unfinished.is_empty() {
            return MergeStep::Read(unfinished);
        }
        let mut items = Vec::new();
        for stream in &mut self.streams {
            while let Some(item) = stream.items.pop_front_if(|item| item.key.change_id == change_id) {
                items.push(item);
            }
        }
        MergeStep::Group { change_id, items }
    }

    /// Whether it is known that nothing is left.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.streams.iter().all(|stream| stream.has_ended && stream.items.is_empty())
    }

    fn which(&self, is: impl Fn(&Stream) -> bool) -> Vec<usize> {
        self.streams.iter().enumerate().filter(|(_, stream)| is(stream)).map(|(index, _)| index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::key::RecordPlace;
    use chrono::DateTime;
    use proptest::prelude::*;

    fn keyed(at: i64, n: u8) -> KeyedItem {
        let change_id = ChangeId::new(DateTime::from_timestamp_millis(at).unwrap(), [0; 10]);
        let place = match n {
            0 => RecordPlace::STARTED,
            1 => RecordPlace::RESULT,
            n => RecordPlace::Later(n),
        };
        KeyedItem { key: RecordKey::new(change_id, place), item: RawRecord::new() }
    }

    proptest! {
            /// However the items are distributed and however few are read at once, every change comes once, complete and in order, and
            /// nothing is read that is not needed to know it.
            #[test]
            fn changes_come_once_and_whole(
                changes in prop::collection::btree_map(0_i64..200, (0_usize..8, 1_u8..5), 0..40),
                at_once in 1_usize..6,
                newest_first: bool,
            ) {
                let order = if newest_first { Order::NewestFirst } else { Order::OldestFirst };
                let mut stored = vec![Vec::new(); 8];
                for (at, (stream, records)) in &changes {
                    stored[*stream].extend((0..*records).map(|n| keyed(*at, n)));
                }
                let mut expected: Vec<_> = changes.iter().map(|(at, (_, records))| (*at, usize::from(*records))).collect();
                if newest_first {
                    expected.reverse();
                    for stream in &mut stored {
     stream.reverse();
    }
                }
                let mut merge = Merge::new(8, order);
                let mut found = Vec::new();
                loop {
                    match merge.step() {
                        MergeStep::End => break,
                        MergeStep::Group { change_id, items } => found.push((change_id.time().timestamp_millis(), items.len())),
                        MergeStep::Read(which) => {
                            prop_assert!(!which.is_empty());
                            for index in which {
                                let taken = at_once.min(stored[index].len());
                                let items = stored[index].drain(..taken).collect();
                                merge.add(index, items, stored[index].is_empty());
                            }
                        }
                    }
                }
                prop_assert!(merge.has_ended());
                prop_assert_eq!(found, expected);
            }
        }

    #[test]
    fn services_that_share_an_id_come_together() {
        let mut merge = Merge::new(2, Order::NewestFirst);
        merge.add(0, vec![keyed(5, 0)], true);
        merge.add(1, vec![keyed(5, 1), keyed(5, 0), keyed(4, 0)], false);
        assert!(matches!(merge.step(), MergeStep::Group { items, .. } if items.len() == 3));
        assert_eq!(merge.step(), MergeStep::Read(vec![1]));
        assert!(!merge.has_ended());
    }
}
