/** /dev/kvm: ioctls by name with blobs whose lengths are checked, memory slots by region (Documentation/virt/kvm/api.rst). */
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cstring>

#include "arguments.h"
#include "exports.h"
#include "regions.h"

namespace slipway {
namespace {

/** A request of ioctl(2), and what its argument is. */
struct Request {
  const char *name;
  unsigned long request;
  /** Bytes of the structure behind the argument; 0: the argument is an integer. */
  size_t bytes;
  /** Bytes of each element behind the structure, whose number is the structure's first 32-bit word; 0: there are none. */
  size_t element;
};

/** The head of structures with elements: their number, and flags or padding. In C++ the header's own types are longer. */
constexpr size_t kCounted = 8;

/** A request's number names its structure's size: as C has it. */
constexpr unsigned long counted(unsigned long request) {
  return (request & ~(static_cast<unsigned long>(_IOC_SIZEMASK) << _IOC_SIZESHIFT)) | kCounted << _IOC_SIZESHIFT;
}

/** No structure here holds a pointer. */
constexpr Request kRequests[] = {
    {"KVM_GET_API_VERSION", KVM_GET_API_VERSION, 0, 0},
    {"KVM_CHECK_EXTENSION", KVM_CHECK_EXTENSION, 0, 0},
    {"KVM_GET_VCPU_MMAP_SIZE", KVM_GET_VCPU_MMAP_SIZE, 0, 0},
    {"KVM_CREATE_VM", KVM_CREATE_VM, 0, 0},
    {"KVM_CREATE_IRQCHIP", KVM_CREATE_IRQCHIP, 0, 0},
    {"KVM_CREATE_VCPU", KVM_CREATE_VCPU, 0, 0},
    {"KVM_IRQ_LINE", KVM_IRQ_LINE, sizeof(kvm_irq_level), 0},
    {"KVM_SET_GSI_ROUTING", counted(KVM_SET_GSI_ROUTING), kCounted, sizeof(kvm_irq_routing_entry)},
    {"KVM_IRQFD", KVM_IRQFD, sizeof(kvm_irqfd), 0},
    {"KVM_IOEVENTFD", KVM_IOEVENTFD, sizeof(kvm_ioeventfd), 0},
    {"KVM_SIGNAL_MSI", KVM_SIGNAL_MSI, sizeof(kvm_msi), 0},
#ifdef __x86_64__
    {"KVM_SET_TSS_ADDR", KVM_SET_TSS_ADDR, 0, 0},
    {"KVM_SET_IDENTITY_MAP_ADDR", KVM_SET_IDENTITY_MAP_ADDR, sizeof(uint64_t), 0},
    {"KVM_CREATE_PIT2", KVM_CREATE_PIT2, sizeof(kvm_pit_config), 0},
    {"KVM_GET_SUPPORTED_CPUID", counted(KVM_GET_SUPPORTED_CPUID), kCounted, sizeof(kvm_cpuid_entry2)},
    {"KVM_SET_CPUID2", counted(KVM_SET_CPUID2), kCounted, sizeof(kvm_cpuid_entry2)},
    {"KVM_SET_REGS", KVM_SET_REGS, sizeof(kvm_regs), 0},
    {"KVM_GET_SREGS", KVM_GET_SREGS, sizeof(kvm_sregs), 0},
    {"KVM_SET_SREGS", KVM_SET_SREGS, sizeof(kvm_sregs), 0},
    {"KVM_SET_MSRS", counted(KVM_SET_MSRS), kCounted, sizeof(kvm_msr_entry)},
#endif
};

const Request &requestArgument(const Napi::CallbackInfo &info, size_t index) {
  std::string name = textArgument(info, index, "ioctl");
  for (const Request &request : kRequests) {
    if (name == request.name) return request;
  }
  throw systemError(info.Env(), "ioctl", EINVAL, ("no request " + name).c_str());
}

Napi::Value kvmOpen(const Napi::CallbackInfo &info) {
  std::string path = textArgument(info, 0, "open");
  return Napi::Number::New(info.Env(), checked(info.Env(), "open", open(path.c_str(), O_RDWR | O_CLOEXEC)));
}

Napi::Value kvmCall(const Napi::CallbackInfo &info) {
  int fd = fdArgument(info, 0, "ioctl");
  const Request &request = requestArgument(info, 1);
  if (request.bytes != 0) throw systemError(info.Env(), request.name, EINVAL, "wants a structure");
  uint64_t value = unsignedArgument(info, 2, request.name, uint64_t{1} << 53);
  return Napi::Number::New(info.Env(), checked(info.Env(), request.name, ioctl(fd, request.request, value)));
}

Napi::Value kvmTransfer(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  int fd = fdArgument(info, 0, "ioctl");
  const Request &request = requestArgument(info, 1);
  if (request.bytes == 0) throw systemError(env, request.name, EINVAL, "wants an integer");
  bool isBytes = info[2].IsTypedArray() && info[2].As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
  if (!isBytes) throw systemError(env, request.name, EINVAL, "expected a Uint8Array");
  auto array = info[2].As<Napi::Uint8Array>();
  size_t needed = request.bytes;
  uint32_t count = 0;
  if (request.element != 0 && array.ByteLength() >= sizeof count) {
    std::memcpy(&count, array.Data(), sizeof count);
    needed += size_t{count} * request.element;
  }
  if (array.ByteLength() < needed) {
    throw systemError(env, request.name, EINVAL, ("wants " + std::to_string(needed) + " bytes").c_str());
  }
  return Napi::Number::New(env, checked(env, request.name, ioctl(fd, request.request, array.Data())));
}

/** The region may be unmapped while the slot exists: KVM then finds no memory there, and says EFAULT. */
void kvmSetMemory(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  int vm = fdArgument(info, 0, "KVM_SET_USER_MEMORY_REGION");
  kvm_userspace_memory_region slot = {};
  slot.slot = static_cast<uint32_t>(unsignedArgument(info, 1, "KVM_SET_USER_MEMORY_REGION", UINT16_MAX));
  slot.guest_phys_addr = unsignedArgument(info, 2, "KVM_SET_USER_MEMORY_REGION", uint64_t{1} << 53);
  const Region &region = regionArgument(info, 3, "KVM_SET_USER_MEMORY_REGION");
  slot.memory_size = region.size;
  slot.userspace_addr = reinterpret_cast<uintptr_t>(region.data);
  checked(env, "KVM_SET_USER_MEMORY_REGION", ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot));
}

Napi::Value kvmMapVcpu(const Napi::CallbackInfo &info) {
  int fd = fdArgument(info, 0, "mmap");
  uint64_t size = unsignedArgument(info, 1, "mmap", uint64_t{1} << 20);
  std::shared_ptr<Mapping> mapping = Mapping::file(fd, 0, size);
  if (mapping == nullptr) throw systemError(info.Env(), "mmap", errno);
  return addRegion(info, std::move(mapping), 0, size);
}

}  // namespace

void exportKvm(Exports &exports) {
  exports.setUp<kvmOpen>("kvmOpen");
  exports.setUp<kvmCall>("kvmCall");
  exports.setUp<kvmTransfer>("kvmTransfer");
  exports.setUp<kvmSetMemory>("kvmSetMemory");
  exports.setUp<kvmMapVcpu>("kvmMapVcpu");
}

}  // namespace slipway
