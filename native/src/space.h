// The space of files: reserving it, finding the holes, and making holes.
#pragma once

#include <napi.h>

namespace pcache {

// allocate(fd, sizeBytes): reserves space for the first bytes of a file, which becomes at least as long (fallocate(2)).
// Never writes zeroes where the filesystem cannot reserve: that throws ERRNO with EOPNOTSUPP.
void allocate(const Napi::CallbackInfo& info);
// extents(fd, offsetBytes, lengthBytes, endBytes: Float64Array, isHole: Uint8Array, done(errno, count)): finds data and
// holes of a range off the main thread (SEEK_DATA, SEEK_HOLE), each up to `endBytes`; as many as the columns hold. A
// file that cannot tell is all data.
void extents(const Napi::CallbackInfo& info);
// canPunch(fd): whether the filesystem of a regular file can make holes. Tries it behind the end of the file, which
// changes nothing.
Napi::Value can_punch(const Napi::CallbackInfo& info);
// zeroRange(fd, offsetBytes, lengthBytes, keepsSpace, done(errno)): makes a range read as zeroes off the main thread, as a
// hole, or with its space kept. Writes zeroes where the filesystem or device can do neither, and in incomplete pages of a
// block device.
void zero_range(const Napi::CallbackInfo& info);

}  // namespace pcache
