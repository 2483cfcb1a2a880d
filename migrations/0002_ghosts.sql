ALTER TABLE account ADD COLUMN ghosts_until timestamptz;
COMMENT ON COLUMN account.ghosts_until IS 'Until then a call of unknown outcome may still land at IM and put its value over a later one; NULL when there is none.';
COMMENT ON COLUMN account.acknowledged IS 'By slot of sync.attribute_names: a text is the value that IM acknowledged, null is none, 0 is unknown (IM may hold either value). In an array of its own, [text] or [null]: acknowledged, but in doubt until ghosts_until; then it is sent once more.';
