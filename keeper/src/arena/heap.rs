//! Tracks which bytes of the arena are allocated: pages, and blocks of one size within a page. It works with offsets
//! only, and keeps its metadata outside the arena, so that a block overrun cannot reach the metadata.

/// The bytes of a page, the unit in which the arena is allocated.
pub(super) const PAGE: usize = 4096;

/// The sizes of blocks that share a page, all multiples of 16. Larger blocks get pages of their own.
const SIZES: [usize; 13] = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048];

/// The maximum number of blocks in a page.
const SLOTS: usize = PAGE / SIZES[0];

/// An allocated part of the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    /// The offset of its first byte.
    pub(super) offset: usize,
    /// Its size in bytes, which is at least the requested size.
    pub(super) len: usize,
}

/// The use of a page.
#[derive(Clone)]
enum Page {
    Free,
    /// The first of the given number of pages that form one block.
    Head(usize),
    /// Another page of such a block.
    Body,
    /// Blocks of one size.
    Slots(Slots),
}

#[derive(Clone)]
struct Slots {
    class: usize,
    taken: usize,
    map: [u64; SLOTS / 64],
}

/// The allocator's metadata.
pub(super) struct Heap {
    /// Pages that were ever used. The pages after them are free.
    pages: Vec<Page>,
    /// The total number of pages.
    limit: usize,
    /// The number of pages in use.
    used: usize,
    /// No page before this one is free.
    lowest_free: usize,
    /// The pages with a free block, for each size. The page to be filled first is at the end.
    partial: [Vec<usize>; SIZES.len()],
}

impl Heap {
    /// Returns a heap with all pages free.
    pub(super) fn new(bytes: usize) -> Self {
        let partial = std::array::from_fn(|_| Vec::new());
        Self { pages: Vec::new(), limit: bytes / PAGE, used: 0, lowest_free: 0, partial }
    }

    /// Returns the number of bytes in all unused pages.
    pub(super) fn free_bytes(&self) -> usize {
        (self.limit - self.used) * PAGE
    }

    /// Takes a block of at least `size` bytes, aligned to 16. `None` if there is not enough free memory.
    pub(super) fn take(&mut self, size: usize) -> Option<Block> {
        match SIZES.iter().position(|fits| size <= *fits) {
            Some(class) => self.take_slot(class),
            None => self.take_pages(size.div_ceil(PAGE)),
        }
    }

    /// Returns the block that begins at `offset`. `None` if no block was taken there.
    pub(super) fn block(&self, offset: usize) -> Option<Block> {
        let within = offset % PAGE;
        match self.pages.get(offset / PAGE)? {
            Page::Head(count) if within == 0 => Some(Block { offset, len: count * PAGE }),
            Page::Slots(slots) => {
                let len = SIZES[slots.class];
                let taken = within.is_multiple_of(len) && slots.has(within / len);
                taken.then_some(Block { offset, len })
            }
            _ => None,
        }
    }

    /// Gives a block back, and returns it. `None` if there is no such block.
    pub(super) fn give(&mut self, offset: usize) -> Option<Block> {
        let block = self.block(offset)?;
        let page = offset / PAGE;
        if let Some(Page::Slots(slots)) = self.pages.get_mut(page) {
            slots.clear(offset % PAGE / block.len);
            let (class, taken) = (slots.class, slots.taken);
            self.slot_came_back(page, class, taken);
        } else {
            self.free_pages(page, block.len / PAGE);
        }
        Some(block)
    }

    fn take_slot(&mut self, class: usize) -> Option<Block> {
        let page = match self.partial[class].last() {
            Some(page) => *page,
            None => self.new_slots(class)?,
        };
        let Some(Page::Slots(slots)) = self.pages.get_mut(page) else { return None };
        let len = SIZES[class];
        let slot = slots.take(PAGE / len)?;
        if slots.taken == PAGE / len {
            self.partial[class].pop();
        }
        Some(Block { offset: page * PAGE + slot * len, len })
    }

    fn new_slots(&mut self, class: usize) -> Option<usize> {
        let page = self.take_pages(1)?.offset / PAGE;
        self.pages[page] = Page::Slots(Slots { class, taken: 0, map: [0; SLOTS / 64] });
        self.partial[class].push(page);
        Some(page)
    }

    /// Handles the return of a block. A page that was full has a free block again. A page that is empty becomes free,
    /// unless it is the only page of its size.
    fn slot_came_back(&mut self, page: usize, class: usize, taken: usize) {
        let partial = &mut self.partial[class];
        if taken + 1 == PAGE / SIZES[class] {
            partial.push(page);
        }
        if taken == 0 && partial.len() > 1 {
            partial.retain(|other| *other != page);
            self.free_pages(page, 1);
        }
    }

    /// Takes the first run of `count` free pages.
    fn take_pages(&mut self, count: usize) -> Option<Block> {
        let first = self.find_run(count)?;
        if self.pages.len() < first + count {
            self.pages.resize(first + count, Page::Free);
        }
        self.pages[first] = Page::Head(count);
        self.pages[first + 1..first + count].fill(Page::Body);
        if first == self.lowest_free {
            self.lowest_free = first + count;
        }
        self.used += count;
        Some(Block { offset: first * PAGE, len: count * PAGE })
    }

    fn find_run(&self, count: usize) -> Option<usize> {
        let mut first = self.lowest_free;
        for (page, used) in self.pages.iter().enumerate().skip(first) {
            if !matches!(used, Page::Free) {
                first = page + 1;
            } else if page + 1 - first == count {
                return Some(first);
            }
        }
        let first = first.min(self.pages.len());
        (count <= self.limit - first).then_some(first)
    }

    fn free_pages(&mut self, first: usize, count: usize) {
        self.pages[first..first + count].fill(Page::Free);
        self.lowest_free = self.lowest_free.min(first);
        self.used -= count;
    }
}

impl Slots {
    fn has(&self, slot: usize) -> bool {
        self.map[slot / 64] & (1 << (slot % 64)) != 0
    }

    fn take(&mut self, count: usize) -> Option<usize> {
        let word = self.map.iter().position(|word| *word != u64::MAX)?;
        let slot = word * 64 + self.map[word].trailing_ones() as usize;
        if slot >= count {
            return None;
        }
        self.map[word] |= 1 << (slot % 64);
        self.taken += 1;
        Some(slot)
    }

    fn clear(&mut self, slot: usize) {
        self.map[slot / 64] &= !(1 << (slot % 64));
        self.taken -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const CAPACITY: usize = 64 * PAGE;

    #[test]
    fn a_full_arena_has_nothing_left_and_serves_again_what_came_back() {
        let mut heap = Heap::new(4 * PAGE);
        let blocks: Vec<_> = std::iter::from_fn(|| heap.take(PAGE)).collect();
        assert_eq!((blocks.len(), heap.free_bytes()), (4, 0));
        assert_eq!(heap.take(1), None);
        assert_eq!(heap.give(blocks[2].offset), Some(blocks[2]));
        assert_eq!(heap.take(2 * PAGE), None);
        assert_eq!(heap.take(PAGE), Some(blocks[2]));
    }

    #[test]
    fn more_than_there_ever_was_is_refused() {
        assert_eq!(Heap::new(CAPACITY).take(CAPACITY + 1), None);
        assert_eq!(Heap::new(CAPACITY).take(usize::MAX), None);
    }

    #[test]
    fn what_was_not_taken_cannot_be_given_back() {
        let mut heap = Heap::new(CAPACITY);
        let (small, large) = (heap.take(40).expect("room"), heap.take(3 * PAGE).expect("room"));
        for offset in [small.offset + 1, small.offset + small.len, large.offset + PAGE, CAPACITY, usize::MAX]
        {
            assert_eq!(heap.give(offset), None, "{offset}");
        }
        for block in [small, large] {
            assert_eq!((heap.give(block.offset), heap.give(block.offset)), (Some(block), None));
        }
    }

    proptest! {
        #[test]
        fn blocks_never_overlap_and_all_comes_back(
            steps in proptest::collection::vec((any::<bool>(), 1_usize..3 * PAGE, any::<prop::sample::Index>()), 1..400),
        ) {
            let mut heap = Heap::new(CAPACITY);
            let mut taken = BTreeMap::new();
            for (take, size, which) in steps {
                if take {
                    let Some(block) = heap.take(size) else { continue };
                    prop_assert!(block.len >= size && block.offset % 16 == 0 && block.offset + block.len <= CAPACITY);
                    let before = taken.range(..=block.offset).next_back();
                    prop_assert!(before.is_none_or(|(offset, len)| offset + len <= block.offset));
                    let after = taken.range(block.offset..).next();
                    prop_assert!(after.is_none_or(|(offset, _)| block.offset + block.len <= *offset));
                    prop_assert_eq!(heap.block(block.offset), Some(block));
                    taken.insert(block.offset, block.len);
                } else if !taken.is_empty() {
                    let offset = *which.get(&taken.keys().copied().collect::<Vec<_>>());
                    taken.remove(&offset);
                    prop_assert_eq!(heap.give(offset).map(|block| block.offset), Some(offset));
                }
            }
            taken.keys().for_each(|offset| assert!(heap.give(*offset).is_some()));
            // The heap keeps one empty page of each size.
            prop_assert!(heap.free_bytes() >= CAPACITY - SIZES.len() * PAGE);
        }
    }
}
