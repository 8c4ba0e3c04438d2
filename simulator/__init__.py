"""What we pretend: every platform of a catalogue on one port, with scripted faults and a ledger of effects."""
