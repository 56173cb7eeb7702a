//! A queue in which clients take turns.

use std::collections::{HashMap, VecDeque};

use super::ClientNet;

/// Items that wait, of which each client in turn has its first one served. Clients without an
/// address are one client.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    /// The clients with items, in the order of their turns.
    clients: VecDeque<Option<ClientNet>>,
    items: HashMap<Option<ClientNet>, VecDeque<T>>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            clients: VecDeque::new(),
            items: HashMap::new(),
        }
    }
}

impl<T> Turns<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Adds an item behind the others of its client.
    pub(crate) fn push(&mut self, client: Option<ClientNet>, item: T) {
        let items = self.items.entry(client).or_default();
        if items.is_empty() {
            self.clients.push_back(client);
        }
        items.push_back(item);
    }

    /// Takes one item of the client whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.pop_of(|_| true).map(|(_, item)| item)
    }

    /// Takes one item of the first client in turn that `may` have one served. Returns the client,
    /// too.
    pub(crate) fn pop_of(
        &mut self,
        mut may: impl FnMut(Option<ClientNet>) -> bool,
    ) -> Option<(Option<ClientNet>, T)> {
        let index = self.clients.iter().position(|client| may(*client))?;
        let client = self.clients.remove(index)?;
        let items = self.items.get_mut(&client)?;
        let item = items.pop_front();
        if items.is_empty() {
            self.items.remove(&client);
        } else {
            self.clients.push_back(client);
        }
        Some((client, item?))
    }

    /// Whether a client has items that `may` have one served.
    pub(crate) fn has_of(&self, mut may: impl FnMut(Option<ClientNet>) -> bool) -> bool {
        self.clients.iter().any(|client| may(*client))
    }

    /// Lets `change` remove items of each client.
    pub(crate) fn change_each(&mut self, mut change: impl FnMut(&mut VecDeque<T>)) {
        self.items.retain(|_, items| {
            change(items);
            !items.is_empty()
        });
        let items = &self.items;
        self.clients.retain(|client| items.contains_key(client));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(last: u8) -> ClientNet {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[test]
    fn clients_take_turns_whatever_they_have() {
        let mut turns = Turns::default();
        for number in 0..5 {
            turns.push(Some(client(1)), number);
        }
        turns.push(Some(client(2)), 10);
        turns.push(None, 20);
        let served: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(served, [0, 10, 20, 1, 2, 3, 4]);
        assert!(turns.is_empty() && turns.items.is_empty());
    }

    #[test]
    fn a_client_without_items_has_no_turn() {
        let mut turns = Turns::default();
        for (last, number) in [(1, 1), (1, 2), (2, 3)] {
            turns.push(Some(client(last)), number);
        }
        turns.change_each(|items| items.retain(|number| *number == 2));
        assert_eq!((turns.pop(), turns.pop()), (Some(2), None));
    }
}
