"""How grokpath is operated: its servers, workers, and what is registered with them."""
