/** Regions: mapped memory that TypeScript sees as an ArrayBuffer, and names by a small integer. */
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "arguments.h"
#include "exports.h"
#include "owned_fd.h"
#include "regions.h"

namespace slipway {
namespace {

/** The longest ArrayBuffer over external memory that Node 20 makes. */
constexpr uint64_t kMaxRegion = uint64_t{1} << 32;
constexpr uint64_t kMaxOffset = uint64_t{1} << 53;

/** The region's index: the lowest that is free. */
uint32_t freeIndex(std::vector<Region> &regions) {
  for (uint32_t index = 0; index < regions.size(); index++) {
    if (regions[index].mapping == nullptr) return index;
  }
  regions.emplace_back();
  return static_cast<uint32_t>(regions.size() - 1);
}

/** Runs once no ArrayBuffer shows the memory any more, in any order with `unmapRegion` and the end of the thread. */
void dropShare(napi_env, void *, void *share) { delete static_cast<std::shared_ptr<Mapping> *>(share); }

}  // namespace

Napi::Value addRegion(const Napi::CallbackInfo &info, std::shared_ptr<Mapping> mapping, uint64_t lead, uint64_t size) {
  Napi::Env env = info.Env();
  ThreadState &state = stateOf(info);
  uint8_t *data = mapping->base() + lead;
  auto *share = new std::shared_ptr<Mapping>(mapping);
  napi_value buffer;
  if (napi_create_external_arraybuffer(env, data, size, dropShare, share, &buffer) != napi_ok) {
    // Whether Node has run the finalizer when it refuses isn't documented: leave the few bytes of the share to it.
    mapping->unmap();
    throw Napi::Error::New(env);
  }
  Napi::Object result = Napi::Object::New(env);
  uint32_t index = freeIndex(state.regions);
  result.Set("region", Napi::Number::New(env, index));
  result.Set("buffer", Napi::Value(env, buffer));
  napi_ref reference;
  if (napi_create_reference(env, buffer, 1, &reference) != napi_ok) throw Napi::Error::New(env);
  state.regions[index] = Region{std::move(mapping), data, size, reference};
  return result;
}

Region &regionArgument(const Napi::CallbackInfo &info, size_t index, const char *syscall) {
  std::vector<Region> &regions = stateOf(info).regions;
  uint64_t region = unsignedArgument(info, index, syscall, UINT32_MAX);
  if (region >= regions.size() || regions[region].mapping == nullptr) {
    throw systemError(info.Env(), syscall, ERANGE, "no such region in this thread");
  }
  return regions[region];
}

namespace {

Napi::Value createMemory(const Napi::CallbackInfo &info) {
  std::string name = textArgument(info, 0, "memfd_create");
  uint64_t size = unsignedArgument(info, 1, "ftruncate", kMaxOffset);
  OwnedFd fd(checked(info.Env(), "memfd_create", memfd_create(name.c_str(), MFD_CLOEXEC)));
  checked(info.Env(), "ftruncate", ftruncate(fd.get(), static_cast<off_t>(size)));
  return Napi::Number::New(info.Env(), fd.release());
}

/** What mappings of the file must be aligned to: the size of its pages. */
uint64_t mappingUnit(Napi::Env env, int fd) {
  struct statfs fileSystem;
  checked(env, "fstatfs", fstatfs(fd, &fileSystem));
  return fileSystem.f_type == HUGETLBFS_MAGIC ? static_cast<uint64_t>(fileSystem.f_bsize) : kPageSize;
}

Napi::Value mapRegion(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  int fd = fdArgument(info, 0, "mmap");
  uint64_t fileOffset = unsignedArgument(info, 1, "mmap", kMaxOffset);
  uint64_t size = unsignedArgument(info, 2, "mmap", kMaxRegion);
  if (size == 0) throw systemError(env, "mmap", EINVAL, "size must be at least 1");

  struct stat status;
  checked(env, "fstat", fstat(fd, &status));
  if (!S_ISREG(status.st_mode)) throw systemError(env, "mmap", EINVAL, "not a regular file or memfd");
  if (fileOffset + size > static_cast<uint64_t>(status.st_size)) {
    throw systemError(env, "mmap", ERANGE, "the range reaches beyond the end of the file");
  }
  uint64_t unit = mappingUnit(env, fd);
  uint64_t lead = fileOffset % unit;
  std::shared_ptr<Mapping> mapping = Mapping::file(fd, fileOffset - lead, roundUp(lead + size, unit));
  if (mapping == nullptr) throw systemError(env, "mmap", errno);
  return addRegion(info, std::move(mapping), lead, size);
}

Napi::Value createRegion(const Napi::CallbackInfo &info) {
  uint64_t size = unsignedArgument(info, 0, "mmap", kMaxRegion);
  if (size == 0) throw systemError(info.Env(), "mmap", EINVAL, "size must be at least 1");
  std::shared_ptr<Mapping> mapping = Mapping::anonymous(roundUp(size, kPageSize));
  if (mapping == nullptr) throw systemError(info.Env(), "mmap", errno);
  return addRegion(info, std::move(mapping), 0, size);
}

void unmapRegion(const Napi::CallbackInfo &info) {
  napi_env env = info.Env();
  Region &region = regionArgument(info, 0, "munmap");
  napi_value buffer;
  bool detached = false;
  if (napi_get_reference_value(env, region.buffer, &buffer) != napi_ok ||
      napi_is_detached_arraybuffer(env, buffer, &detached) != napi_ok) {
    throw Napi::Error::New(info.Env());
  }
  if (!detached) {
    if (napi_detach_arraybuffer(env, buffer) != napi_ok) {
      throw systemError(info.Env(), "munmap", EBUSY, "the region's buffer can't be detached");
    }
    region.mapping->unmap();
  }
  // A buffer that was detached before us was transferred: another ArrayBuffer shows the memory, and the finalizer unmaps
  // it.
  napi_delete_reference(env, region.buffer);
  region = Region{};
}

Napi::Value regionFaulted(const Napi::CallbackInfo &info) {
  return Napi::Boolean::New(info.Env(), regionArgument(info, 0, "mmap").mapping->faulted());
}

}  // namespace

void exportRegions(Exports &exports) {
  exports.setUp<createMemory>("createMemory");
  exports.setUp<mapRegion>("mapRegion");
  exports.setUp<createRegion>("createRegion");
  exports.setUp<unmapRegion>("unmapRegion");
  exports.setUp<regionFaulted>("regionFaulted");
}

}  // namespace slipway
