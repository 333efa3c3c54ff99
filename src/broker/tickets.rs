//! A table whose keys are small numbers that are used again.

/// Values by ticket. A ticket is taken once and given back once.
#[derive(Debug)]
pub struct Tickets<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Tickets { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Tickets<T> {
    /// The ticket that the next `insert` will give.
    pub fn next(&self) -> u64 {
        self.free.last().map_or(self.slots.len() as u64, |slot| u64::from(*slot))
    }

    pub fn insert(&mut self, value: T) -> u64 {
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(value);
                u64::from(slot)
            }
            None => {
                self.slots.push(Some(value));
                self.slots.len() as u64 - 1
            }
        }
    }

    /// The value, which leaves the table; `None` for a ticket that is not out.
    pub fn take(&mut self, ticket: u64) -> Option<T> {
        let slot = usize::try_from(ticket).ok()?;
        let value = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot as u32);
        if self.free.len() == self.slots.len() && self.slots.len() > KEEP_SLOTS_MAX {
            // After a burst the memory goes back.
            *self = Tickets::default();
        }
        Some(value)
    }
}

const KEEP_SLOTS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_gives_its_value_once_and_is_used_again() {
        let mut tickets = Tickets::default();
        assert_eq!(tickets.next(), 0);
        let (a, b) = (tickets.insert("a"), tickets.insert("b"));
        assert_eq!(tickets.take(a), Some("a"));
        assert_eq!(tickets.take(a), None);
        assert_eq!(tickets.next(), a);
        assert_eq!(tickets.insert("c"), a);
        assert_eq!((tickets.take(b), tickets.take(9)), (Some("b"), None));
    }
}
