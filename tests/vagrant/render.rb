# frozen_string_literal: true

# Prints what a Vagrantfile configures, as JSON, without Vagrant and without a VM.
#
#   PROVIDERS=libvirt,virtualbox ADDRESSES=192.168.56.1/24 ruby render.rb VAGRANTFILE [TRIGGER...]
#
# PROVIDERS are those that seem to be installed, ADDRESSES those that the machine seems to have. TRIGGER is one to run
# first: "before(up)", "after(destroy)".

require "ipaddr"
require "json"
require "socket"

providers = ENV.fetch("PROVIDERS", "").split(",")

module Vagrant
  module Util
    module Which
    end
  end
end

Vagrant.define_singleton_method(:has_plugin?) { |name| providers.include?(name.delete_prefix("vagrant-").tr("-", "_")) }
Vagrant::Util::Which.define_singleton_method(:which) { |_| providers.include?("virtualbox") ? "/usr/bin/VBoxManage" : nil }

# The machine's own addresses.
Interface = Struct.new(:addr, :netmask)
addresses = ENV.fetch("ADDRESSES", "127.0.0.1/8").split(",").map do |text|
  address, bits = text.split("/")
  mask = IPAddr.new("255.255.255.255").mask(bits.to_i).to_s
  Interface.new(Addrinfo.ip(address), Addrinfo.ip(mask))
end
Socket.define_singleton_method(:getifaddrs) { addresses }

# Keeps what is assigned; nested settings are reached by their names.
class Settings
  attr_reader :values

  def initialize
    @values = {}
  end

  def [](name) = @values[name]

  def []=(name, value)
    @values[name] = value
  end

  def respond_to_missing?(*) = true

  def method_missing(name, *arguments)
    return @values[name.to_s.chomp("=")] = arguments.first if name.to_s.end_with?("=")

    @values[name.to_s] ||= Settings.new
  end

  def to_json(*arguments) = @values.to_json(*arguments)
end

# The `vm` of a configuration.
class Machine < Settings
  def network(kind, **options)
    (@values["networks"] ||= {})[kind] = options
  end

  def provider(name)
    yield (@values["providers"] ||= {})[name] ||= Settings.new, (@values["overrides"] ||= {})[name] ||= Configuration.new
  end

  def provision(name, type:)
    yield (@values["provisioners"] ||= {})[name] = Settings.new.tap { |settings| settings["type"] = type }
  end

  def define(name, primary: false)
    machine = (@values["machines"] ||= {})[name] ||= Configuration.new
    machine.vm["primary"] = primary
    yield machine
  end

  def synced_folder(path, *, **options)
    (@values["synced_folders"] ||= {})[path] = options
  end
end

# What the block of Vagrant.configure gets.
class Configuration
  attr_reader :vm, :triggers

  def initialize
    @vm = Machine.new
    @triggers = {}
  end

  def trigger = self

  %w[before after].each do |moment|
    define_method(moment) do |*commands, &configure|
      settings = Settings.new
      block = nil
      settings.define_singleton_method(:ruby) { |&given| block = given }
      configure.call(settings)
      commands.each { |command| @triggers["#{moment}(#{command})"] = block }
    end
  end

  def to_json(*arguments) = @vm.to_json(*arguments)
end

# ansible/bootstrap has nothing to do here.
def system(*) = true

# Whether libvirt runs is the test's to say: LIBVIRT=stopped.
libvirt_runs = ENV["LIBVIRT"] != "stopped"
File.singleton_class.prepend(
  Module.new { define_method(:exist?) { |path| path.start_with?("/run/libvirt/") ? libvirt_runs : super(path) } },
)

configuration = Configuration.new
Vagrant.define_singleton_method(:configure) { |_, &block| block.call(configuration) }

vagrantfile, *runs = ARGV
ARGV.replace(runs.empty? ? ["up"] : [runs.first[/\w+(?=\))/]])
load vagrantfile
provider = Struct.new(:provider_name).new(:libvirt)
runs.each { |run| configuration.triggers.fetch(run).call(nil, provider) }
puts JSON.generate(configuration.vm)
