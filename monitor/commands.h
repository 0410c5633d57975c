// The QMP commands, by area; each declares its own.
#pragma once

namespace ashlar {

class Daemon;
class QmpCommands;

void add_machine_commands(QmpCommands& commands, Daemon& daemon);
void add_misc_commands(QmpCommands& commands, Daemon& daemon);
void add_bitmap_commands(QmpCommands& commands, Daemon& daemon);
void add_block_commands(QmpCommands& commands, Daemon& daemon);
void add_export_commands(QmpCommands& commands, Daemon& daemon);
void add_object_commands(QmpCommands& commands, Daemon& daemon);
void add_transaction_commands(QmpCommands& commands, Daemon& daemon);

}  // namespace ashlar
