"""The program.  What a tunnel is, it has from `usernet`, which also decides, first of all, what runs compiled."""

import usernet as usernet
