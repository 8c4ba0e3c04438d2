"""The page of a number's owner: how far the request is, in plain words, by an unguessable link."""
