"""The commands of `peerpath`, one file each. Needs the extra `cli`; nothing else imports from here."""
