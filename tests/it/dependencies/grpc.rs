//! A Requester behind proxies: failed calls, hung connections, orderly closes.
